"""The answers to one stage's tasks: let in within a memory budget, given out in id order.

Updates are announced first and uploaded when granted. The one that comes next in order
always gets its grant; others as far as the budget goes. Only when all that is held waits
for a learner that is late do further ones go to a temporary file. So the aggregator's
memory does not depend on the number of learners, and nobody waits without need.
"""

from __future__ import annotations

import asyncio
import mmap
import tempfile
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum, auto
from pathlib import Path

import numpy as np

from flops_fl.errors import ProtocolError
from flops_fl.types import Answer, Array, Evaluation, Layout, LearnerFailure, Task, Update
from flops_fl.wire.messages import Chunk, Result
from flops_fl.wire.tensors import Assembler

_ALIGN = 64  # bytes; tensors in a spool file start on a cache line


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
    ) -> None:
        self._entries = {learner: _Entry(tasks[learner]) for learner in sorted(tasks)}
        self._waiting = list(self._entries)  # in order; the head is awaited next
        self._layout = layout
        self._budget = budget
        self._grant = grant
        self._on_answer = on_answer
        self._spool = spool
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
            entry.status = _Status.OFFERED
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
        entry.upload.add(chunk.offset, chunk.data)
        if entry.upload.complete:
            self._complete(learner, entry)

    def interrupt(self, learner: str) -> None:
        """The connection broke: an answer that was not complete will be offered again."""
        entry = self._entries.get(learner)
        if entry is None or entry.status is _Status.SETTLED:
            return
        self._release(entry)
        entry.status, entry.result, entry.upload = _Status.WORKING, None, None
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
        """One answer for each task, in learner-id order; drop each before the next."""
        while self._waiting:
            entry = self._entries[self._waiting[0]]
            await entry.settled.wait()
            answer, entry.answer = entry.answer, None
            self._waiting.pop(0)
            self._admit()  # the next in order must not wait for this one's folding
            assert answer is not None
            yield answer
            del answer
            self._release(entry)
            self._admit()

    # -- the budget ----------------------------------------------------------------------

    def _admit(self) -> None:
        """Grant what can be granted; settled entries in front need nothing more."""
        head = next((n for n in self._waiting if self._unsettled(n)), None)
        size = self._layout.nbytes
        for learner in self._waiting:
            entry = self._entries[learner]
            if entry.status is not _Status.OFFERED:
                continue
            if learner == head or self._held + size <= self._budget:
                entry.charge = size
                self._held += size
                self._start_upload(learner, entry, self._layout.empty())
            elif head and self._all_wait_for(head):
                self._start_upload(learner, entry, spooled(self._layout, self._spool))

    def _unsettled(self, learner: str) -> bool:
        return self._entries[learner].status is not _Status.SETTLED

    def _all_wait_for(self, head: str) -> bool:
        """Nothing moves, and nothing can be folded before `head` has been heard of."""
        return self._waiting[0] == head and not any(
            e.status is _Status.UPLOADING for e in self._entries.values()
        )

    def _start_upload(self, learner: str, entry: _Entry, arrays: list[Array]) -> None:
        entry.status, entry.upload = _Status.UPLOADING, Assembler(arrays)
        self._grant(learner, entry.task)

    def _release(self, entry: _Entry) -> None:
        self._held -= entry.charge
        entry.charge = 0

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
        entry.status, entry.answer = _Status.SETTLED, answer
        entry.settled.set()
        self._on_answer(learner, answer.reason if isinstance(answer, LearnerFailure) else None)
        self._admit()


def spooled(layout: Layout, folder: Path | None) -> list[Array]:
    """Arrays of `layout` in a temporary file that no crash can leave behind (unlinked)."""
    offsets, end = [], 0
    for spec in layout.tensors:
        offsets.append(end)
        end += -(-spec.nbytes // _ALIGN) * _ALIGN
    with tempfile.TemporaryFile(dir=folder) as file:
        file.truncate(max(end, 1))
        memory = mmap.mmap(file.fileno(), max(end, 1))
    return [
        np.ndarray(spec.shape, spec.dtype, memory, offset)
        for spec, offset in zip(layout.tensors, offsets, strict=True)
    ]
