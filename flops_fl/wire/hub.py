"""The hub: every learner's stream on one event loop, as the `Cohort` that rounds talk to."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flops_fl.errors import FederationError, ProtocolError
from flops_fl.types import Answer, Layout, Parameters, Task
from flops_fl.wire.codec import chunks, decode
from flops_fl.wire.collect import Collection
from flops_fl.wire.door import judge, name_of
from flops_fl.wire.messages import (
    Cancel,
    Chunk,
    Failure,
    Goodbye,
    Grant,
    Hello,
    Message,
    Order,
    Ping,
    Refusal,
    Result,
    Welcome,
)
from flops_fl.wire.session import Conversation, Side, State
from flops_fl.wire.stream import Outbox

log = logging.getLogger(__name__)

HELLO_TIMEOUT = 20.0  # seconds for a new stream to say who it is
PING_TIMEOUT = 5.0  # seconds for a learner to show that it is alive


@dataclass(frozen=True, kw_only=True, slots=True)
class HubOptions:
    """Limits of the aggregator's side. Times in seconds, sizes in bytes."""

    reconnect_timeout: float = 60.0
    stall_timeout: float = 60.0
    memory_budget: int = 256 << 20
    spool: Path | None = None


class Link:
    """One learner's stream, as long as it lasts."""

    def __init__(self) -> None:
        self.conversation = Conversation()
        self.outbox = Outbox(Side.AGGREGATOR, self.conversation)
        self.learner = ""
        self.nonce = ""
        self.holds: tuple[str, int] | None = None  # run id and version of its parameters
        self.holding = ""  # key of a task it works on or has finished
        self.alive = asyncio.Event()
        self.replaced = asyncio.Event()


class Hub:
    """The connected learners; the `Cohort` that `core.rounds` talks to.

    Args:
        run_id: Names this run in tasks and parameters' versions.
        fingerprint: Of the global model's layout, which every learner must have.
    """

    def __init__(self, run_id: str, fingerprint: str, options: HubOptions) -> None:
        self._run_id = run_id
        self._fingerprint = fingerprint
        self._options = options
        self._links: dict[str, Link] = {}
        self._lost: dict[str, asyncio.TimerHandle] = {}
        self._changed = asyncio.Condition()
        self._collection: Collection | None = None
        self._encoded: tuple[int, Layout, list[bytes]] | None = None
        self._down = self._up = 0
        self._closing = False
        self.on_presence: Callable[[], None] = lambda: None

    # -- the Cohort ----------------------------------------------------------------------

    def present(self) -> Sequence[str]:
        """Learners connected, or cut off so shortly that they are expected back."""
        return sorted({*self._links, *self._lost})

    async def gather(self, minimum: int, timeout: float) -> None:
        """Wait until `minimum` learners are present."""
        started = time.monotonic()
        try:
            async with asyncio.timeout(timeout), self._changed:
                await self._changed.wait_for(lambda: len(self.present()) >= minimum)
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
        timeout: float,
        on_answer: Callable[[str, str | None], None],
    ) -> AsyncIterator[Answer]:
        """Send the tasks and give the answers in learner-id order; see `core.rounds.Cohort`."""
        layout = self._publish(next(iter(tasks.values())).version, parameters)
        del parameters
        collection = Collection(
            tasks,
            layout,
            budget=self._options.memory_budget,
            grant=self._grant,
            on_answer=on_answer,
            spool=self._options.spool,
        )
        self._collection = collection
        deadline = asyncio.get_running_loop().call_later(timeout, self._expire, timeout)
        for learner in tasks:
            self._dispatch(learner)
        try:
            async for answer in collection.answers():
                yield answer
                del answer
        finally:
            deadline.cancel()
            for learner in collection.open():
                self._cancel(learner, "the stage is over")
            self._collection = None

    def traffic(self) -> tuple[int, int]:
        """Bytes sent and received so far, without HTTP/2's and TLS's own."""
        return self._down, self._up

    def _publish(self, version: int, parameters: Parameters) -> Layout:
        """Encode a version of the global model, once for all learners."""
        if self._encoded is None or self._encoded[0] != version:
            self._encoded = None  # let go of the old one before the new one is made
            self._encoded = (version, Layout.of(parameters), list(chunks(version, parameters)))
        return self._encoded[1]

    def _dispatch(self, learner: str) -> None:
        """Send a learner its open task, and the parameters if it does not hold them."""
        link = self._links.get(learner)
        task = self._collection.open_task(learner) if self._collection else None
        if link is None or task is None:
            return
        assert self._encoded is not None
        _, layout, frames = self._encoded
        version = (task.run_id, task.version)
        if link.holding == task.key or link.holds == version:
            link.outbox.send(Order(task=task, layout=None))
        else:
            link.holds = None
            link.outbox.send(Order(task=task, layout=layout))
            link.outbox.send_tensors(task.key, frames, lambda: setattr(link, "holds", version))

    def _grant(self, learner: str, task: Task) -> None:
        self._links[learner].outbox.send(Grant(key=task.key))
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

    def _expire(self, timeout: float) -> None:
        for learner in self._collection.late() if self._collection else []:
            lost = "" if learner in self._links else "; its connection is lost"
            self._fail(learner, f"no answer within {timeout:.0f} s (--round-timeout){lost}")

    def _fail(self, learner: str, reason: str) -> None:
        self._cancel(learner, reason)
        assert self._collection is not None
        self._collection.fail(learner, "wire", reason)

    def _cancel(self, learner: str, reason: str) -> None:
        link = self._links.get(learner)
        task = link.conversation.task if link else None
        if link is not None and task is not None:
            link.outbox.send(Cancel(key=task.key, reason=reason))

    # -- streams -------------------------------------------------------------------------

    async def join(self, requests: AsyncIterator[bytes], context: Any) -> None:
        """Serve one learner's stream: the handler of Federation.Join."""
        link = Link()

        async def write(frame: bytes) -> None:
            self._down += len(frame)
            await context.write(frame)

        writer = asyncio.create_task(link.outbox.run(write))
        try:
            if await self._greet(link, requests, _certified_names(context)):
                await self._listen(link, requests)
        except ProtocolError as error:
            log.warning("learner %s broke the protocol: %s", link.learner or "(unnamed)", error)
            link.outbox.send(Goodbye(reason=f"protocol error: {error}"))
        finally:
            self._leave(link)
            link.outbox.close()
            with suppress(Exception):  # the peer may be gone: nothing to tell it
                await asyncio.wait_for(writer, 5.0)

    async def _listen(self, link: Link, requests: AsyncIterator[bytes]) -> None:
        while link.conversation.state is not State.CLOSED and not link.replaced.is_set():
            frame = await anext(requests, None)
            if frame is None:
                return
            self._up += len(frame)
            message = decode(frame)
            if link.conversation.step(Side.LEARNER, message):
                self._receive(link, message)

    def _receive(self, link: Link, message: Message) -> None:
        if isinstance(message, Ping):
            link.alive.set()
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

    async def _greet(
        self, link: Link, requests: AsyncIterator[bytes], certified: Sequence[str]
    ) -> bool:
        """Let a learner in, or say why not."""
        try:
            frame = await asyncio.wait_for(anext(requests, None), HELLO_TIMEOUT)
        except TimeoutError:
            raise ProtocolError(f"no Hello within {HELLO_TIMEOUT:.0f} s") from None
        if frame is None:
            return False
        hello = decode(frame)
        link.conversation.step(Side.LEARNER, hello)
        if not isinstance(hello, Hello):
            return False
        link.learner, link.nonce = name_of(hello, certified), hello.nonce
        refusal = judge(
            hello, certified, fingerprint=self._fingerprint, closing=self._closing
        ) or await self._contest(link)
        if refusal:
            log.warning("learner %s refused: %s", link.learner, refusal.reason)
            link.outbox.send(refusal)
            return False
        if hello.run_id and hello.parameters >= 0:
            link.holds = (hello.run_id, hello.parameters)
        link.holding = hello.holding
        link.outbox.send(Welcome(learner=link.learner, run_id=self._run_id))
        await self._enter(link)
        return True

    async def _contest(self, link: Link) -> Refusal | None:
        """A second process under a connected id is refused, if the first one is alive."""
        other = self._links.get(link.learner)
        if other is None:
            return None
        if other.nonce != link.nonce:
            other.alive.clear()
            other.outbox.send(Ping())
            try:
                await asyncio.wait_for(other.alive.wait(), PING_TIMEOUT)
            except TimeoutError:
                log.warning("learner %s was gone: its place is taken again", link.learner)
            else:
                return Refusal(
                    reason=f"learner id {link.learner!r} is in use by another running process: "
                    "stop it, or choose another --learner-id"
                )
        self._leave(other)
        other.replaced.set()
        other.outbox.send(Goodbye(reason="replaced by a newer connection"))
        return None

    async def _enter(self, link: Link) -> None:
        self._links[link.learner] = link
        timer = self._lost.pop(link.learner, None)
        if timer:
            timer.cancel()
        self._dispatch(link.learner)
        await self._announce()

    def _leave(self, link: Link) -> None:
        if self._links.get(link.learner) is not link:
            return
        del self._links[link.learner]
        if self._collection:
            self._collection.interrupt(link.learner)
        timeout = self._options.reconnect_timeout
        loop = asyncio.get_running_loop()
        self._lost[link.learner] = loop.call_later(timeout, self._give_up, link.learner)

    def _give_up(self, learner: str) -> None:
        self._lost.pop(learner, None)
        if self._collection and self._collection.open_task(learner):
            away = self._options.reconnect_timeout
            self._fail(learner, f"connection lost, not back within {away:.0f} s")

    async def _announce(self) -> None:
        self.on_presence()
        async with self._changed:
            self._changed.notify_all()

    async def close(self, reason: str, *, final: bool) -> None:
        """Say goodbye to all. `final`: the project has ended, learners need not come back."""
        self._closing = True
        for timer in self._lost.values():
            timer.cancel()
        for link in self._links.values():
            link.outbox.send(Goodbye(reason=reason, final=final))
            link.outbox.close()


def _certified_names(context: Any) -> list[str]:
    """The names in the client's certificate (mutual TLS): common name and DNS names."""
    auth = context.auth_context()
    names = [*auth.get("x509_common_name", []), *auth.get("x509_subject_alternative_name", [])]
    return [name.decode() for name in names if name]
