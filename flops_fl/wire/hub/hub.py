"""The hub: every learner's stream on one event loop, as the `Cohort` that rounds talk to."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flops_fl.errors import FederationError
from flops_fl.process.spool import forget
from flops_fl.types import Answer, Deadline, Layout, Parameters, Task
from flops_fl.wire.chunks import Chunks
from flops_fl.wire.hub.intake import Collection
from flops_fl.wire.hub.links import Link, Links
from flops_fl.wire.messages import (
    Cancel,
    Chunk,
    Failure,
    Grant,
    Message,
    Order,
    Result,
)

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class HubOptions:
    """Limits of the aggregator's side. Times in seconds, sizes in bytes."""

    reconnect_timeout: float = 600.0
    stall_timeout: float = 180.0  # for the next 1 MiB of an upload: 6 KB/s
    memory_budget: int = 256 << 20
    spool: Path | None = None
    patience: float = 1.0  # before updates that wait for a late learner go to the spool


class Hub:
    """The connected learners; the `Cohort` that `core.rounds` talks to.

    Args:
        run_id: Names this run in tasks and parameters' versions.
        fingerprint: Of the global model's layout, which every learner must have.
    """

    def __init__(self, run_id: str, fingerprint: str, options: HubOptions) -> None:
        self._options = options
        self.links = Links(run_id, fingerprint, options.reconnect_timeout, self)
        self._changed = asyncio.Event()
        self._collection: Collection | None = None
        self._spare = 0  # learners that may yet fail before the quorum is out of reach
        self._encoded: tuple[int, Layout, Chunks] | None = None
        self.on_presence: Callable[[], None] = lambda: None
        self.on_return: Callable[[str], None] = lambda learner: None

    # -- the Cohort ----------------------------------------------------------------------

    def present(self) -> Sequence[str]:
        """Learners connected, or cut off so shortly that they are expected back."""
        return self.links.present()

    async def gather(self, minimum: int, timeout: float) -> None:
        """Wait until `minimum` learners are present."""
        started = time.monotonic()
        try:
            async with asyncio.timeout(timeout):
                while len(self.present()) < minimum:
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            here = ", ".join(self.present()) or "none"
            raise FederationError(
                f"{len(self.present())} of {minimum} learners (--min-available-clients) after "
                f"{time.monotonic() - started:.0f} s (--join-timeout): {here}. Start the "
                "missing ones, or lower the minimum"
            ) from None

    async def ask(
        self,
        tasks: Mapping[str, Task],
        parameters: Parameters,
        deadline: Deadline,
        on_answer: Callable[[str, str | None], None],
    ) -> AsyncIterator[Answer]:
        """Send the tasks and give the answers in learner-id order; see `core.plan.Cohort`."""
        layout = self._publish(next(iter(tasks.values())).version, parameters)
        forget(parameters)  # if they lie in a file: whoever has read them there is done
        del parameters
        loop, good, timers = asyncio.get_running_loop(), [0], []
        self._spare = len(tasks) - deadline.quorum

        def answered(learner: str, failure: str | None) -> None:
            on_answer(learner, failure)
            good[0] += failure is None
            self._spare -= failure is not None
            if failure is None and good[0] == deadline.quorum and deadline.grace is not None:
                early = deadline.reason(early=True)
                timers.append(loop.call_later(deadline.grace, self._expire, early))

        collection = Collection(
            tasks,
            layout,
            budget=self._options.memory_budget,
            grant=self._grant,
            on_answer=answered,
            spool=self._options.spool,
            patience=self._options.patience,
        )
        self._collection = collection
        late = deadline.reason(early=False)
        timers.append(loop.call_later(deadline.timeout, self._expire, late))
        # Who has announced an update in time may need time to deliver it, but not for ever.
        stuck = f"announced, and not delivered within another {deadline.timeout:g} s"
        timers.append(loop.call_later(2 * deadline.timeout, self._expire, stuck, True))
        for learner in tasks:
            self._dispatch(learner)
        try:
            async for answer in collection.answers():
                yield answer
                del answer
        finally:
            for timer in timers:
                timer.cancel()
            for learner in collection.open():
                self._cancel(learner, "the stage is over")
            self._collection = None

    def dismiss(self, learner: str, reason: str) -> None:
        """Say goodbye to one learner for good."""
        self.links.dismiss(learner, reason)

    def traffic(self) -> tuple[int, int]:
        """Bytes sent and received so far, without HTTP/2's and TLS's own."""
        return self.links.bytes_down, self.links.bytes_up

    def _publish(self, version: int, parameters: Parameters) -> Layout:
        """Make a version of the global model ready to be sent, once for all learners."""
        if self._encoded is None or self._encoded[0] != version:
            self._encoded = (version, Layout.of(parameters), Chunks(version, parameters))
        return self._encoded[1]

    def _dispatch(self, learner: str) -> None:
        """Send a learner its open task, and the parameters if it does not hold them."""
        link = self.links.get(learner)
        task = self._collection.open_task(learner) if self._collection else None
        if link is None or task is None:
            return
        assert self._encoded is not None
        _, layout, model = self._encoded
        version = (task.run_id, task.version)
        if link.holding == task.key or link.holds == version:
            link.outbox.send(Order(task=task, layout=None))
        else:
            link.holds = None
            link.outbox.send_task(task, layout, model, lambda: setattr(link, "holds", version))

    def _grant(self, learner: str, task: Task) -> None:
        link = self.links.get(learner)
        assert link is not None  # it has just offered
        link.outbox.send(Grant(key=task.key))
        self._watch_upload(learner, task, -1)

    def _watch_upload(self, learner: str, task: Task, seen: int) -> None:
        """Give up on an upload that stands still."""
        collection = self._collection
        if collection is None or collection.open_task(learner) is not task:
            return
        received = collection.progress(learner)
        if received is None:
            return
        timeout = self._options.stall_timeout
        if received == seen:
            self._fail(learner, f"its upload stood still at {seen} bytes for {timeout:.0f} s")
            return
        loop = asyncio.get_running_loop()
        loop.call_later(timeout, self._watch_upload, learner, task, received)

    def _expire(self, reason: str, announced: bool = False) -> None:
        """Wait no longer for those still at work, nor, if so said, for those that announced."""
        if self._collection is None:
            return
        for learner in self._collection.open() if announced else self._collection.late():
            lost = "" if self.links.get(learner) else "; its connection is lost"
            self._fail(learner, f"{reason}{lost}")

    def _fail(self, learner: str, reason: str) -> None:
        self._cancel(learner, reason)
        assert self._collection is not None
        self._collection.fail(learner, "wire", reason)

    def _cancel(self, learner: str, reason: str) -> None:
        link = self.links.get(learner)
        task = link.conversation.task if link else None
        if link is not None and task is not None:
            link.outbox.send(Cancel(key=task.key, reason=reason))

    # -- what the links report ---------------------------------------------------------------

    async def join(self, requests: AsyncIterator[bytes], context: Any) -> None:
        """Serve one learner's stream: the handler of Federation.Join."""
        await self.links.join(requests, context)

    def entered(self, link: Link, *, again: bool) -> None:
        """Give a learner the task it has yet to answer, if there is one."""
        if again:
            self.on_return(link.learner)
        self._dispatch(link.learner)
        self._announce()

    def heard(self, link: Link, message: Message) -> None:
        """Take an answer, or a piece of one."""
        collection = self._collection
        if collection is None or collection.open_task(link.learner) is None:
            return
        if isinstance(message, Result):
            task = link.conversation.task
            refused = collection.offer(link.learner, message)
            if refused and task is not None:  # it waits for a grant that will not come
                link.outbox.send(Cancel(key=message.key, reason=refused))
        elif isinstance(message, Chunk):
            collection.chunk(link.learner, message)
        elif isinstance(message, Failure):
            collection.fail(link.learner, message.stage, message.reason, message.traceback)

    def left(self, learner: str) -> None:
        """What it had not finished sending will be offered again."""
        if self._collection:
            self._collection.interrupt(learner)

    def gone(self, learner: str) -> None:
        """Stop waiting for it, unless the round would fail: then it has until the deadline."""
        if self._collection and self._collection.open_task(learner) and self._spare > 0:
            away = self._options.reconnect_timeout
            self._fail(learner, f"connection lost, not back within {away:.0f} s")
        self._announce()

    def _announce(self) -> None:
        self.on_presence()
        self._changed.set()

    async def close(self, reason: str, *, final: bool) -> None:
        """Say goodbye to all. `final`: the project has ended, learners need not come back."""
        self.links.close(reason, final=final)
