"""The answers to one stage's tasks: let in within a memory budget, given out in id order.

Updates are announced first and uploaded when granted. The one that comes next in order
always gets its grant; others as far as the budget goes. Only when all that is held waits
for a learner that is late do further ones go to a temporary file. So the aggregator's
memory does not depend on the number of learners, and nobody waits without need.
"""

from __future__ import annotations

import asyncio
import logging
from bisect import insort
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum, auto
from pathlib import Path

from flops_fl.errors import ProtocolError
from flops_fl.process.spool import FORGET_BYTES, forget, spooled
from flops_fl.types import Answer, Array, Evaluation, Layout, LearnerFailure, Task, Update
from flops_fl.wire.chunks import Assembler
from flops_fl.wire.messages import Chunk, Result

log = logging.getLogger(__name__)


class _Status(Enum):
    WORKING = auto()
    OFFERED = auto()
    UPLOADING = auto()
    SETTLED = auto()


@dataclass(slots=True)
class _Entry:
    task: Task
    status: _Status = _Status.WORKING
    result: Result | None = None
    upload: Assembler | None = None
    charge: int = 0  # bytes of the budget
    answer: Answer | None = None
    settled: asyncio.Event = field(default_factory=asyncio.Event)


class Collection:
    """What has come back for the tasks of one stage.

    Args:
        tasks: By learner id.
        layout: Of the global model, which updates must have, too.
        budget: Bytes of updates in memory at a time; one is always allowed.
        grant: Called to let a learner upload.
        on_answer: Called as each answer becomes final: learner, reason of failure if any.
        spool: Folder for updates beyond the budget.
        patience: Seconds to wait for the next in order before others go to the spool.
    """

    def __init__(
        self,
        tasks: Mapping[str, Task],
        layout: Layout,
        *,
        budget: int,
        grant: Callable[[str, Task], None],
        on_answer: Callable[[str, str | None], None],
        spool: Path | None = None,
        patience: float = 1.0,
    ) -> None:
        self._entries = {learner: _Entry(tasks[learner]) for learner in sorted(tasks)}
        self._order = list(self._entries)
        self._given = 0  # answers handed out: the entry at this place is awaited next
        self._settled = 0  # entries before this place are settled
        self._offered: list[str] = []  # waiting for a grant, in order
        self._uploading = 0
        self._spare: list[list[Array]] = []  # arrays of updates that were folded
        self._layout = layout
        self._budget = budget
        self._grant = grant
        self._on_answer = on_answer
        self._spool = spool
        self._patience = patience
        self._awaited, self._late = "", False
        self._held = 0

    def open_task(self, learner: str) -> Task | None:
        """The task that `learner` has yet to answer."""
        entry = self._entries.get(learner)
        return None if entry is None or entry.status is _Status.SETTLED else entry.task

    def late(self) -> list[str]:
        """Learners that have not even announced an answer."""
        return [n for n, e in self._entries.items() if e.status is _Status.WORKING]

    def open(self) -> list[str]:
        """Learners whose answer is not final."""
        return [n for n, e in self._entries.items() if e.status is not _Status.SETTLED]

    def progress(self, learner: str) -> int | None:
        """Bytes received of an upload under way, else None."""
        upload = self._entries[learner].upload
        return upload.received if upload else None

    def offer(self, learner: str, result: Result) -> str | None:
        """Take a result's header, and its tensors if they are with it.

        Returns:
            Why it is refused, if it is; the learner's answer is then a failure.
        """
        entry = self._entries[learner]
        if entry.task.stage == "evaluate":
            self._settle_evaluation(learner, result)
            return None
        difference = self._layout.difference(result.layout or Layout(()))
        if difference:
            reason = f"update of round {entry.task.round} refused: {difference}"
            self.fail(learner, "update", reason)
            return reason
        entry.result = result
        if result.needs_grant:
            self._mark(learner, entry, _Status.OFFERED)
            self._admit()
        else:
            entry.upload = Assembler(self._layout.empty())
            entry.upload.add(0, result.inline)
            self._complete(learner, entry)
        return None

    def chunk(self, learner: str, chunk: Chunk) -> None:
        """Take a piece of a granted upload.

        Raises:
            ProtocolError: it was not granted, or is not the next piece.
        """
        entry = self._entries[learner]
        if entry.upload is None:
            raise ProtocolError("tensor bytes without a grant")
        upload = entry.upload
        upload.add(chunk.offset, chunk.data)
        if not entry.charge and (upload.complete or upload.received % FORGET_BYTES == 0):
            forget(upload.arrays)  # they lie in a file, and are not looked at yet
        if upload.complete:
            self._complete(learner, entry)

    def interrupt(self, learner: str) -> None:
        """The connection broke: an answer that was not complete will be offered again."""
        entry = self._entries.get(learner)
        if entry is None or entry.status is _Status.SETTLED:
            return
        self._release(entry)
        self._mark(learner, entry, _Status.WORKING)
        entry.result = entry.upload = None
        self._admit()

    def fail(self, learner: str, stage: str, reason: str, traceback: str = "") -> None:
        """Settle for a failure."""
        entry = self._entries[learner]
        self._release(entry)
        entry.result = entry.upload = None
        self._settle(
            learner,
            LearnerFailure(learner=learner, stage=stage, reason=reason, traceback=traceback),
        )

    async def answers(self) -> AsyncIterator[Answer]:
        """One answer for each task, in learner-id order.

        Drop each before the next: an update's arrays are then filled with a later one.
        """
        while self._given < len(self._order):
            entry = self._entries[self._order[self._given]]
            await entry.settled.wait()
            answer, entry.answer = entry.answer, None
            self._given += 1
            self._admit()  # the next in order must not wait for this one's folding
            assert answer is not None
            yield answer
            if entry.charge and isinstance(answer, Update):
                self._spare.append(list(answer.parameters))
            del answer
            self._release(entry)
            self._admit()

    # -- the budget ----------------------------------------------------------------------

    def _admit(self) -> None:
        """Grant what can be granted within the budget; the first in order is never stuck."""
        if not self._offered:
            return
        head, size = self._head(), self._layout.nbytes
        for learner in list(self._offered):
            first = learner == head
            # What comes next in order must find room when it comes.
            kept_free = size if head and self._entries[head].charge == 0 and not first else 0
            fits = self._held + size + kept_free <= self._budget
            if fits or (first and not self._will_shrink()):
                self._entries[learner].charge = size
                self._held += size
                self._start_upload(learner, self._spare.pop() if self._spare else None)
            elif head and self._all_wait_for(head) and self._is_late(head):
                try:
                    self._start_upload(learner, spooled(self._layout, self._spool))
                except OSError as error:
                    log.warning("no room for early updates (%s): they wait for late ones", error)
                    break
            else:
                break  # what does not fit for one fits for no other

    def _will_shrink(self) -> bool:
        """Whether folding what is settled in front of the head gives memory back."""
        start = max(self._given - 1, 0)  # the one handed out last is being folded
        return any(self._entries[n].charge for n in self._order[start : self._settled])

    def _head(self) -> str | None:
        """The first in order that is not settled."""
        while self._settled < len(self._order):
            learner = self._order[self._settled]
            if self._entries[learner].status is not _Status.SETTLED:
                return learner
            self._settled += 1
        return None

    def _all_wait_for(self, head: str) -> bool:
        """Nothing moves, and nothing can be folded before `head` has been heard of."""
        waits = self._order[self._given] == head and not self._uploading
        return waits and not self._will_shrink()

    def _is_late(self, head: str) -> bool:
        """Whether it has been waited for long enough; if not, ask again when it has."""
        if self._awaited != head:
            self._awaited, self._late = head, self._patience <= 0
            if not self._late:
                loop = asyncio.get_running_loop()
                loop.call_later(self._patience, self._grow_impatient, head)
        return self._late

    def _grow_impatient(self, head: str) -> None:
        if self._awaited == head:
            self._late = True
            self._admit()

    def _start_upload(self, learner: str, arrays: list[Array] | None) -> None:
        entry = self._entries[learner]
        self._mark(learner, entry, _Status.UPLOADING)
        entry.upload = Assembler(self._layout.empty() if arrays is None else arrays)
        self._grant(learner, entry.task)

    def _release(self, entry: _Entry) -> None:
        self._held -= entry.charge
        entry.charge = 0

    def _mark(self, learner: str, entry: _Entry, status: _Status) -> None:
        """Change a status, and the counts that depend on it."""
        if entry.status is _Status.OFFERED:
            self._offered.remove(learner)
        self._uploading += (status is _Status.UPLOADING) - (entry.status is _Status.UPLOADING)
        if status is _Status.OFFERED:
            insort(self._offered, learner)
        entry.status = status

    # -- settling ------------------------------------------------------------------------

    def _complete(self, learner: str, entry: _Entry) -> None:
        assert entry.upload is not None
        assert entry.result is not None
        arrays, result = entry.upload.arrays, entry.result
        entry.upload = entry.result = None
        update = Update(
            learner=learner, parameters=arrays, examples=result.examples, metrics=result.metrics
        )
        self._settle(learner, update)

    def _settle_evaluation(self, learner: str, result: Result) -> None:
        evaluation = Evaluation(
            learner=learner, loss=result.loss, examples=result.examples, metrics=result.metrics
        )
        self._settle(learner, evaluation)

    def _settle(self, learner: str, answer: Answer) -> None:
        entry = self._entries[learner]
        self._mark(learner, entry, _Status.SETTLED)
        entry.answer = answer
        entry.settled.set()
        self._on_answer(learner, answer.reason if isinstance(answer, LearnerFailure) else None)
        self._admit()
