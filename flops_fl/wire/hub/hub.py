"""The hub: all learners' streams on one event loop, as the `Cohort` of `core.rounds`."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Any

from flops_fl.errors import FederationError
from flops_fl.process.spool import release_pages
from flops_fl.types import Deadline, Layout, Parameters, Setup, Task
from flops_fl.wire.chunks import Chunks
from flops_fl.wire.hub.link import Link
from flops_fl.wire.hub.links import Links
from flops_fl.wire.hub.precedence import ById, Precedence
from flops_fl.wire.hub.stage import HubOptions, Stage
from flops_fl.wire.messages import Message


class Hub:
    """The connected learners; the `Cohort` that `core.rounds` talks to.

    Args:
        run_id: Names this run in tasks and in versions of the parameters.
        layout: Of the global model; every learner's model must have the same.
        on_presence: Called with all learners present whenever one comes or goes.
        on_join: Called with each learner that is let in, and what it trains with.
        on_cut_off: Called with each learner that is not connected any more, with the reason, empty
            if it needs no saying, and with the seconds for which it is expected back.
        on_return: Called with each learner that is back after it had lost its connection.
    """

    def __init__(
        self,
        run_id: str,
        layout: Layout,
        options: HubOptions,
        *,
        on_presence: Callable[[Sequence[str]], None] = lambda present: None,
        on_join: Callable[[str, Setup], None] = lambda learner, setup: None,
        on_cut_off: Callable[[str, str, float], None] = lambda learner, reason, seconds: None,
        on_return: Callable[[str], None] = lambda learner: None,
    ) -> None:
        self._layout = layout
        self._options = options
        self._on_presence = on_presence
        self._on_join = on_join
        self._on_cut_off = on_cut_off
        self._on_return = on_return
        self.links = Links(
            run_id,
            layout.fingerprint,
            options.setup,
            reconnect_timeout=options.reconnect_timeout,
            stall_timeout=options.stall_timeout,
            hello_timeout=options.hello_timeout,
            keepalive=options.keepalive,
            audience=self,
        )
        self._changed = asyncio.Event()
        self._stages: list[Stage] = []
        self._model: Chunks | None = None

    # -- the Cohort ----------------------------------------------------------------------

    def present(self) -> Sequence[str]:
        """Learners that are connected, or were cut off so recently that they may come back."""
        return self.links.present()

    async def gather(self, minimum: int, timeout: float) -> None:
        """Wait until `minimum` learners are present.

        Raises:
            FederationError: there are fewer after `timeout` seconds.
        """
        if len(self.present()) >= minimum:
            return
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

    def ask(
        self,
        tasks: Mapping[str, Task],
        parameters: Parameters,
        deadline: Deadline,
        on_answer: Callable[[str, str | None], None],
    ) -> Stage:
        """Send the tasks; the stage gives the answers in learner-id order. See `Cohort`."""
        stage = self.open(deadline, on_answer, ById())
        stage.ask(tasks, self.publish(next(iter(tasks.values())).version, parameters))
        return stage

    def open(
        self,
        deadline: Deadline,
        on_answer: Callable[[str, str | None], None],
        order: Precedence,
    ) -> Stage:
        """Begin a stage without tasks; several stages may go on at the same time.

        A learner has at most one task at a time, in one of them.
        """
        self._stages = [stage for stage in self._stages if not stage.closed]
        stage = Stage(
            self.links,
            self._layout,
            self._options,
            deadline=deadline,
            order=order,
            on_answer=on_answer,
        )
        self._stages.append(stage)
        return stage

    def publish(self, version: int, parameters: Parameters) -> Chunks:
        """Prepare a version of the global model for sending; all learners share its frames."""
        if self._model is None or self._model.version != version:
            self._model = Chunks(version, parameters)
        release_pages(parameters)  # frees the pages of a model that lies in a file
        return self._model

    def dismiss(self, learner: str, reason: str) -> None:
        """Say goodbye to one learner for good."""
        self.links.dismiss(learner, reason)

    def traffic(self) -> tuple[int, int]:
        """Bytes sent and received so far, without the overhead of HTTP/2 and TLS."""
        return self.links.bytes_down, self.links.bytes_up

    def part(self) -> None:
        """This process was interrupted and is about to `close`: learners go on with their tasks."""
        self.links.part()

    async def close(self, reason: str, *, final: bool, failed: bool = False) -> None:
        """Say goodbye to all. `final`: the project has ended and learners need not come back."""
        self.links.close(reason, final=final, failed=failed)

    # -- what the links report -----------------------------------------------------------

    async def join(self, requests: AsyncIterator[bytes], context: Any) -> None:
        """Serve one learner's stream: the handler of Federation.Join."""
        await self.links.join(requests, context)

    def entered(self, link: Link, *, again: bool) -> None:
        """Send a learner the task that it has yet to answer, if there is one."""
        self._on_join(link.learner, link.setup)
        if again:
            self._on_return(link.learner)
        if stage := self._stage_of(link.learner):
            stage.entered(link)
        self._announce()

    def heard(self, link: Link, message: Message) -> None:
        """Hand an answer, or a piece of one, to its stage."""
        if stage := self._stage_of(link.learner):
            stage.heard(link, message)

    def left(self, learner: str) -> None:
        """A stream broke."""
        if stage := self._stage_of(learner):
            stage.left(learner)

    def cut_off(self, learner: str, reason: str, seconds: float) -> None:
        """A learner is not connected any more."""
        self._on_cut_off(learner, reason, seconds)

    def gone(self, learner: str, reason: str, *, returns: bool) -> None:
        """A learner is not expected back any more."""
        if stage := self._stage_of(learner):
            stage.gone(learner, reason, returns=returns)
        self._announce()

    def _stage_of(self, learner: str) -> Stage | None:
        for stage in self._stages:
            if stage.awaits(learner):
                return stage
        return None

    def _announce(self) -> None:
        self._on_presence(self.present())
        self._changed.set()
