"""A stage: tasks for some learners, until each has answered or its time is up."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from flops_fl import limits
from flops_fl.errors import ProtocolError
from flops_fl.types import Answer, Deadline, Layout, Setup, Task
from flops_fl.wire.chunks import Chunks
from flops_fl.wire.codec import encode
from flops_fl.wire.hub.entries import Room
from flops_fl.wire.hub.intake import Intake, late
from flops_fl.wire.hub.link import Link
from flops_fl.wire.hub.links import Links
from flops_fl.wire.hub.precedence import Precedence
from flops_fl.wire.messages import Cancel, Chunk, Failure, Grant, Message, Order, Result

log = logging.getLogger(__name__)


LEAST_PROGRESS = 1 << 20  # bytes of an upload in a stall timeout: 6 KB/s by default


@dataclass(frozen=True, kw_only=True, slots=True)
class HubOptions:
    """Limits of the aggregator's side. Times in seconds, sizes in bytes."""

    setup: Setup | None = None
    """The aggregator's setup if learners' must equal it; None if theirs may differ."""
    reconnect_timeout: float = limits.ABSENCE_TIMEOUT
    hello_timeout: float = limits.HELLO_TIMEOUT
    keepalive: float = limits.KEEPALIVE
    stall_timeout: float = limits.STALL_TIMEOUT
    """Longest wait for the next 1 MiB of an upload, and for a learner to read what it is sent."""
    room: Room = field(default_factory=Room)


class Stage:
    """The tasks of one stage and the answers to them.

    More learners may be asked while a stage is open. If it gives out answers by arrival, it can
    span many aggregations, and a task may outlive the aggregation during which it was given.

    Args:
        layout: Of the global model.
        deadline: When to give up those who have not answered.
        order: In which order to give out answers.
        on_answer: Called when an answer is final, with the learner and why it failed, or None.
    """

    def __init__(
        self,
        links: Links,
        layout: Layout,
        options: HubOptions,
        *,
        deadline: Deadline,
        order: Precedence,
        on_answer: Callable[[str, str | None], None],
    ) -> None:
        self._links = links
        self._options = options
        self._deadline = deadline
        self._on_answer = on_answer
        self._intake = Intake(
            layout, options.room, order, grant=self._grant, on_answer=self._answered
        )
        self._models: dict[str, Chunks] = {}  # the model that each learner's task is about
        self._asked_at: dict[str, float] = {}
        self._frames: list[tuple[Task, bool, Order, bytes]] = []
        self._timers: list[asyncio.TimerHandle] = []
        self._began = time.monotonic()
        self._good = 0
        self._asked = self._failed = 0
        self.closed = False

    # -- the consumer's side -------------------------------------------------------------

    def ask(self, tasks: Mapping[str, Task], model: Chunks) -> None:
        """Give these learners, who have no open task here, a task about `model`."""
        self._intake.ask(tasks)
        self._asked += len(tasks)
        self._models.update(dict.fromkeys(tasks, model))
        self._asked_at.update(dict.fromkeys(tasks, time.monotonic()))
        self._frames.clear()
        timeout = self._deadline.timeout
        stuck = f"announced, and not delivered within another {timeout:g} s"
        self._expire_after(timeout, tasks, self._deadline.reason(early=False), timeout, stuck)
        for learner in tasks:
            self.entered(self._links.get(learner))

    async def next(self) -> Answer | None:
        """The next answer in order; None when every learner's has been given.

        Do not use an answer after the next call, which reuses an update's arrays for a later one.
        """
        return await self._intake.next()

    def close(self) -> None:
        """Stop waiting, and cancel the tasks of those who have not answered."""
        self.closed = True
        for timer in self._timers:
            timer.cancel()
        for learner in self._intake.open():
            self._cancel(learner, "the stage is over")
        # Free these whole models now, not when the garbage collector finds them.
        self._intake.close()
        self._models.clear()
        self._frames.clear()

    # -- what the links report -----------------------------------------------------------

    def awaits(self, learner: str) -> bool:
        """Whether this learner has an open task here."""
        return not self.closed and self._intake.open_task(learner) is not None

    def entered(self, link: Link | None) -> None:
        """Send a learner its open task, with the parameters if it does not hold them."""
        task = self._intake.open_task(link.learner) if link else None
        if link is None or task is None:
            return
        has_it = link.task == task.key or link.outbox.held == (task.run_id, task.version)
        model = None if has_it else self._models[link.learner]
        # What the learner said that it had is true until it gets this order.
        link.task = ""
        order, frame = self._order(self._as_of_now(task, link.learner), model)
        try:
            link.outbox.send_order(order, model, frame)
        except ProtocolError as error:  # ends this learner's stream, but not the round
            self._links.drop(link, str(error))

    def heard(self, link: Link, message: Message) -> None:
        """Take an answer, or a piece of one."""
        learner, intake = link.learner, self._intake
        if isinstance(message, Result):
            waits = message.needs_grant
            refused = intake.offer(learner, message)
            if refused and waits:  # the learner would wait for its grant for ever
                link.outbox.send(Cancel(key=message.key, reason=refused))
        elif isinstance(message, Chunk):
            intake.chunk(learner, message)
        elif isinstance(message, Failure):
            intake.fail(learner, message.stage, message.reason, message.traceback)

    def left(self, learner: str) -> None:
        """A learner's stream broke: it will offer again what it had not sent completely."""
        self._intake.interrupt(learner)

    def gone(self, learner: str, reason: str, *, returns: bool = True) -> None:
        """Count a learner that was lost as failed.

        If it may return and the stage cannot reach its quorum without it, wait for it until the
        deadline.
        """
        task = self._intake.open_task(learner)
        if returns and task and self._asked - self._failed <= self._deadline.quorum:
            log.warning(
                "round %d %s: %s is awaited until the deadline all the same (--round-timeout, "
                "%g s), since too few are left without it: %s",
                task.round, task.stage, learner, self._deadline.timeout, reason,
            )  # fmt: skip
            return
        self._fail(learner, reason)

    # -- helpers -------------------------------------------------------------------------

    def _as_of_now(self, task: Task, learner: str) -> Task:
        """The task with the time that is left of it, in whole seconds so that orders are alike."""
        gone = time.monotonic() - self._asked_at[learner]
        if gone < 1 or not task.timeout:
            return task
        return replace(task, timeout=max(1.0, float(round(task.timeout - gone))))

    def _order(self, task: Task, model: Chunks | None) -> tuple[Order, bytes]:
        """The order and its frame, encoded once for all learners that get the same order."""
        with_model = model is not None
        for known, had_model, order, frame in self._frames:
            if had_model == with_model and (known is task or known == task):
                return order, frame
        if model is None:
            order = Order(task=task)
        else:
            order = Order(task=task, nbytes=model.nbytes, inline=model.inline, sizes=model.sizes)
        self._frames = [*self._frames[-3:], (task, with_model, order, encode(order))]
        return order, self._frames[-1][3]

    def _answered(self, learner: str, failure: str | None) -> None:
        self._on_answer(learner, failure)
        self._failed += failure is not None
        self._good += failure is None
        if failure is None and self._good == self._deadline.quorum:
            self._close_soon(self._intake.open(), self._deadline)

    def _close_soon(self, names: Sequence[str], deadline: Deadline) -> None:
        """The quorum has answered: give the others until the grace and the share are over."""
        if (grace := deadline.grace) is not None:
            stuck = f"announced, and not delivered within another {grace:g} s (--grace)"
            self._expire_after(grace, names, deadline.reason(early=True), grace, stuck)
        if (share := deadline.share) is not None:
            left = max(0.0, self._began + share - time.monotonic())
            said = f"{round(share, 2):g} s"
            slow = f"no answer within {said}, this round's share of the root's deadline"
            stuck = f"announced, and not delivered within another {said}"
            self._expire_after(left, names, slow, share, stuck)

    def _grant(self, learner: str, task: Task) -> None:
        link = self._links.get(learner)
        assert link is not None  # it has just offered
        link.outbox.send(Grant(key=task.key))
        self._watch_upload(learner, task, None)

    def _watch_upload(self, learner: str, task: Task, seen: int | None) -> None:
        """Give up an upload that makes less than `LEAST_PROGRESS` in a stall timeout."""
        if self.closed or self._intake.open_task(learner) is not task:
            return
        received = self._intake.progress(learner)
        if received is None:
            return
        timeout = self._options.stall_timeout
        if seen is not None and received - seen < LEAST_PROGRESS:
            self._fail(
                learner,
                f"its upload stalled at {received} bytes, {received - seen} more in "
                f"{timeout:.0f} s",
            )
            return
        loop = asyncio.get_running_loop()
        loop.call_later(timeout, self._watch_upload, learner, task, received)

    def _expire_after(
        self, seconds: float, learners: Iterable[str], reason: str, more: float, stuck: str
    ) -> None:
        """After `seconds`, give up those that have not even announced an answer, for `reason`.

        Those that have announced one get `more` seconds to deliver it; after that `stuck` is why.
        """
        open_ = {name: self._intake.open_task(name) for name in learners}
        self._call_later(seconds, self._expire, open_, reason, (more, stuck))

    def _call_later(self, seconds: float, call: Callable[..., None], *arguments: Any) -> None:
        timer = asyncio.get_running_loop().call_later(seconds, call, *arguments)
        self._timers.append(timer)

    def _expire(
        self,
        tasks: Mapping[str, Task | None],
        reason: str,
        announced: tuple[float, str] | None,
    ) -> None:
        """Give up those still at these tasks, but for now those that have `announced` an answer."""
        names = [n for n, task in tasks.items() if task and self._intake.open_task(n) is task]
        if announced:
            more, stuck = announced
            self._call_later(more, self._expire, tasks, stuck, None)
            names = late(self._intake, names)
        for learner in names:
            lost = "" if self._links.get(learner) else "; its connection is lost"
            fault = self._links.fault(learner)
            self._fail(learner, f"{fault}; {reason}" if fault else f"{reason}{lost}")

    def _fail(self, learner: str, reason: str) -> None:
        self._cancel(learner, reason)
        self._intake.fail(learner, "wire", reason)

    def _cancel(self, learner: str, reason: str) -> None:
        if self._links.closing:
            return  # the run may be resumed, and the learner deliver what it trains
        link = self._links.get(learner)
        task = link.conversation.task if link else None
        if link is not None and task is not None:
            link.outbox.send(Cancel(key=task.key, reason=reason))
