"""Receives the answers to a stage's tasks within a memory budget and gives them out in order.

A learner announces its update, and uploads it when the intake grants that. The next update in
order always gets its grant; others get one while the budget lasts. When every update in memory
waits for a learner that is late, further ones go to a temporary file. So the aggregator's
memory does not depend on the number of learners, and no learner waits without need.
"""

from __future__ import annotations

import asyncio
import logging
from bisect import insort
from collections.abc import Callable, Iterable, Mapping

from flops_fl.errors import ProtocolError
from flops_fl.process.spool import RELEASE_BYTES, release_pages, spooled
from flops_fl.types import Answer, Array, Evaluation, Layout, LearnerFailure, Task, Update
from flops_fl.wire.chunks import Assembler, arrays_in
from flops_fl.wire.hub.entries import Entry, Room, Status
from flops_fl.wire.hub.precedence import Precedence
from flops_fl.wire.messages import Chunk, Result

log = logging.getLogger(__name__)


class Intake:
    """The answers to a stage's tasks.

    Args:
        layout: Of the global model; updates must have the same.
        order: Says whose answer is given out next.
        grant: Called to let a learner upload.
        on_answer: Called when an answer is final, with the learner and why it failed, or None.
    """

    def __init__(
        self,
        layout: Layout,
        room: Room,
        order: Precedence,
        *,
        grant: Callable[[str, Task], None],
        on_answer: Callable[[str, str | None], None],
    ) -> None:
        self._layout = layout
        self._room = room
        self._order = order
        self._grant = grant
        self._on_answer = on_answer
        self._entries: dict[str, Entry] = {}
        self._offered: list[str] = []  # waiting for a grant, in order
        self._open = 0  # entries that are not settled
        self._uploading = 0
        self._held = 0  # bytes of the budget that are taken
        self._given: Entry | None = None  # the answer that is being folded
        self._given_arrays: list[Array] | None = None
        self._folded: list[list[Array]] = []  # arrays that a later update may fill
        self._waiter: asyncio.Future[None] | None = None
        self._missed, self._is_late = "", False  # the awaited one, and whether it is late

    def ask(self, tasks: Mapping[str, Task]) -> None:
        """Expect an answer from each of these learners, who have no open task."""
        for learner, task in tasks.items():
            self._entries[learner] = Entry(task, self._layout)
        self._open += len(tasks)
        self._order.ask(sorted(tasks))

    def open_task(self, learner: str) -> Task | None:
        """The task that `learner` has yet to answer."""
        entry = self._entries.get(learner)
        return None if entry is None or entry.status is Status.SETTLED else entry.task

    def open(self) -> list[str]:
        """Learners whose answer is not final."""
        return [n for n, e in self._entries.items() if e.status is not Status.SETTLED]

    def has_announced(self, learner: str) -> bool:
        """Whether the learner has announced its update."""
        return self._entries[learner].status in (Status.OFFERED, Status.UPLOADING)

    def progress(self, learner: str) -> int | None:
        """Bytes received so far of an upload; None if none is under way."""
        upload = self._entries[learner].upload
        return upload.received if upload else None

    def offer(self, learner: str, result: Result) -> str | None:
        """Take a result's header, and its tensors if it carries them.

        Returns:
            Why the update is refused, and so counts as a failure; None if it is not.

        Raises:
            ProtocolError: it does not fit the model. That is recorded as a failure, too.
        """
        entry = self._entries[learner]
        if entry.task.stage == "evaluate":
            self._settle(learner, _evaluation(learner, result))
            return None
        try:
            entry.layout = self._room.admitted(result, self._layout)
        except (ValueError, ProtocolError) as error:
            reason = f"update of round {entry.task.round} refused: {error}"
            self.fail(learner, "update", reason)
            if isinstance(error, ProtocolError):
                raise ProtocolError(reason) from None
            return reason
        entry.result = result
        if result.needs_grant:
            self._mark(learner, entry, Status.OFFERED)
            self._admit()
        elif result.parameters is not None:
            self._complete(learner, entry, list(result.parameters))
        else:
            self._complete(learner, entry, arrays_in(result.inline, entry.layout))
        return None

    def chunk(self, learner: str, chunk: Chunk) -> None:
        """Take a piece of a granted upload.

        Raises:
            ProtocolError: the upload was not granted, or this is not its next piece.
        """
        entry = self._entries[learner]
        upload = entry.upload
        if upload is None:
            raise ProtocolError("tensor bytes without a grant")
        upload.add(chunk.offset, chunk.data)
        if not entry.charge and (upload.complete or upload.received % RELEASE_BYTES == 0):
            release_pages(upload.arrays)  # they lie in a file, and nobody reads them yet
        if upload.complete:
            self._complete(learner, entry, upload.arrays)

    def interrupt(self, learner: str) -> None:
        """The connection broke: the learner will offer an incomplete answer again."""
        entry = self._entries.get(learner)
        if entry is None or entry.status is Status.SETTLED:
            return
        self._release(entry)
        self._mark(learner, entry, Status.WORKING)
        entry.result = entry.upload = None
        self._admit()

    def fail(self, learner: str, stage: str, reason: str, traceback: str = "") -> None:
        """Record a failure as the learner's final answer."""
        entry = self._entries[learner]
        self._release(entry)
        entry.result = entry.upload = None
        failure = LearnerFailure(learner=learner, stage=stage, reason=reason, traceback=traceback)
        self._settle(learner, failure)

    async def next(self) -> Answer | None:
        """The next answer in order; None when every learner's has been given.

        Do not use an answer after the next call, which reuses an update's arrays for a later one.
        """
        self._take_back()
        while (learner := self._order.next()) is None:
            if not self._open:
                return None
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter
        entry = self._entries[learner]
        answer, entry.answer = entry.answer, None
        assert answer is not None
        self._given = entry
        if entry.charge and isinstance(answer, Update) and not self._layout.opaque:
            self._given_arrays = list(answer.parameters)
        self._order.give()
        self._admit()  # the next update uploads while the caller folds this one
        return answer

    def close(self) -> None:
        """Let go of all tensors."""
        self._folded.clear()
        self._given = self._given_arrays = None
        for entry in self._entries.values():
            entry.result = entry.upload = entry.answer = None

    def _take_back(self) -> None:
        """Free the memory of the answer given out last: the caller has folded it by now."""
        if self._given is None:
            return
        entry, self._given = self._given, None
        if self._given_arrays is not None:
            self._folded.append(self._given_arrays)
            self._given_arrays = None
        self._release(entry)
        self._admit()

    # -- the budget ----------------------------------------------------------------------

    def _admit(self) -> None:
        """Grant uploads within the budget; the first in order never waits for a later one."""
        if not self._offered:
            return
        head = self._order.awaited()
        for learner in list(self._offered):
            entry, first = self._entries[learner], head in (None, learner)
            size = entry.layout.nbytes
            # Reserve room for the next update in order.
            reserved = size if head and not first and not self._entries[head].charge else 0
            if self._held + size + reserved <= self._room.budget or (
                first and not self._will_shrink(head)
            ):
                entry.charge = size
                self._held += size
                self._start_upload(learner, self._folded.pop() if self._folded else None)
            elif head and self._all_wait_for(head) and self._waited_enough_for(head):
                try:
                    self._start_upload(learner, spooled(entry.layout, self._room.spool))
                except OSError as error:
                    log.warning(
                        "cannot store early updates in a temporary file (%s): they wait for the "
                        "late ones",
                        error,
                    )
                    break
            else:
                break  # what does not fit for one learner does not fit for any other

    def _will_shrink(self, head: str | None) -> bool:
        """Whether memory becomes free without an answer from `head` (None: from anybody)."""
        if head is None and self._uploading and self._held:
            return True
        folding = self._given is not None and self._given.charge > 0
        return folding or any(self._entries[name].charge for name in self._order.ready())

    def _all_wait_for(self, head: str) -> bool:
        """Whether nothing is on its way and nothing can be folded before `head` answers."""
        return not (self._uploading or self._order.ready() or self._will_shrink(head))

    def _waited_enough_for(self, head: str) -> bool:
        """Whether `head` is late; if not yet, `_admit` runs again when it is."""
        if self._missed != head:
            self._missed, self._is_late = head, self._room.patience <= 0
            if not self._is_late:
                loop = asyncio.get_running_loop()
                loop.call_later(self._room.patience, self._grow_impatient, head)
        return self._is_late

    def _grow_impatient(self, head: str) -> None:
        if self._missed == head:
            self._is_late = True
            self._admit()

    def _start_upload(self, learner: str, arrays: list[Array] | None) -> None:
        entry = self._entries[learner]
        self._mark(learner, entry, Status.UPLOADING)
        entry.upload = Assembler(entry.layout.empty() if arrays is None else arrays)
        self._grant(learner, entry.task)

    def _release(self, entry: Entry) -> None:
        self._held -= entry.charge
        entry.charge = 0

    def _mark(self, learner: str, entry: Entry, status: Status) -> None:
        """Change a status and the counts that depend on it."""
        if entry.status is Status.OFFERED:
            self._offered.remove(learner)
        self._uploading += (status is Status.UPLOADING) - (entry.status is Status.UPLOADING)
        if status is Status.OFFERED:
            insort(self._offered, learner)
        entry.status = status

    # -- settling ------------------------------------------------------------------------

    def _complete(self, learner: str, entry: Entry, arrays: list[Array]) -> None:
        result, entry.upload, entry.result = entry.result, None, None
        assert result is not None
        update = Update(
            learner=learner, parameters=arrays, examples=result.examples, metrics=result.metrics,
            data=result.data,
        )  # fmt: skip
        self._settle(learner, update)

    def _settle(self, learner: str, answer: Answer) -> None:
        entry = self._entries[learner]
        self._mark(learner, entry, Status.SETTLED)
        self._open -= 1
        entry.answer = answer
        self._order.settle(learner)
        if self._waiter and not self._waiter.done() and self._order.next() is not None:
            self._waiter.set_result(None)
        self._on_answer(learner, answer.reason if isinstance(answer, LearnerFailure) else None)
        self._admit()


def _evaluation(learner: str, result: Result) -> Evaluation:
    return Evaluation(
        learner=learner, loss=result.loss, examples=result.examples, metrics=result.metrics
    )


def late(intake: Intake, learners: Iterable[str]) -> list[str]:
    """Those of `learners` that have not even announced an answer."""
    open_ = (name for name in learners if intake.open_task(name) is not None)
    return [name for name in open_ if not intake.has_announced(name)]
