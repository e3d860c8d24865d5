"""Who is connected: streams open, identify themselves, carry messages, break and come back."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import suppress
from functools import partial
from typing import Any, Protocol

from flops_fl.errors import ProtocolError
from flops_fl.text import sentence
from flops_fl.types import Setup
from flops_fl.wire.hub.complaints import Complaints
from flops_fl.wire.hub.door import judge
from flops_fl.wire.hub.link import PARTING, Link, certified_names, peer_of
from flops_fl.wire.hub.speaker import Native, Speaker
from flops_fl.wire.messages import Goodbye, Message, Ping, Refusal, Welcome
from flops_fl.wire.session import Side, State

log = logging.getLogger(__name__)

LOST = "connection lost"


class Audience(Protocol):
    """Whoever the links report to: the hub."""

    def entered(self, link: Link, *, again: bool) -> None:
        """A learner is let in, for the first time or again after its connection was lost."""

    def heard(self, link: Link, message: Message) -> None:
        """A learner sent a message about its task."""

    def left(self, learner: str) -> None:
        """A learner's stream broke; it may be back soon."""

    def cut_off(self, learner: str, reason: str, seconds: float) -> None:
        """A learner is not connected any more; it is expected back for so many seconds.

        `reason` is empty if a person need not hear of it.
        """

    def gone(self, learner: str, reason: str, *, returns: bool) -> None:
        """A learner did not come back in time. `returns`: it may still come back later."""


class Links:
    """The learners' streams, one a learner.

    Args:
        fingerprint: Of the global model's layout; every learner's must be equal.
        setup: The aggregator's setup if learners' must equal it; None if theirs may differ.
        reconnect_timeout: Seconds for which a learner that was cut off counts as present.
        stall_timeout: Seconds for which a learner may read nothing of what it is sent.
        hello_timeout: Seconds that a new stream has for its Hello.
        keepalive: Seconds between pings of an idle connection.
    """

    def __init__(
        self,
        run_id: str,
        fingerprint: str,
        setup: Setup | None,
        *,
        reconnect_timeout: float,
        stall_timeout: float,
        hello_timeout: float,
        keepalive: float,
        audience: Audience,
    ) -> None:
        self._run_id = run_id
        self._fingerprint = fingerprint
        self._setup = setup
        self._reconnect_timeout = reconnect_timeout
        self._stall_timeout = stall_timeout
        self._hello_timeout = hello_timeout
        self._vanishing = 1.5 * keepalive + 5.0
        self._look: asyncio.TimerHandle | None = None
        self._audience = audience
        self._links: dict[str, Link] = {}
        self._lost: dict[str, tuple[asyncio.TimerHandle, str]] = {}  # with the last stream's fault
        self.closing = False
        """Whether this process is about to end: it lets nobody in, and cancels nobody's task."""
        self._dismissed: dict[str, str] = {}
        self._complaints = Complaints()
        self.bytes_down = self.bytes_up = 0

    def get(self, learner: str) -> Link | None:
        """The learner's stream, if it is connected now."""
        return self._links.get(learner)

    def fault(self, learner: str) -> str:
        """What the learner did wrong that ended its stream, until it answers as it should."""
        if link := self._links.get(learner):
            return link.fault
        return self._lost[learner][1] if learner in self._lost else ""

    def present(self) -> list[str]:
        """Learners that are connected, or were cut off so recently that they may come back."""
        return sorted({*self._links, *self._lost})

    async def join(self, requests: AsyncIterator[bytes], context: Any) -> None:
        """Serve one learner's stream: the handler of Federation.Join."""
        await self.serve(Native(certified_names(context)), requests, context)

    async def serve(
        self,
        speaker: Speaker,
        requests: AsyncIterator[bytes],
        context: Any,
    ) -> None:
        """Serve the stream of a client of any kind, from its greeting to its end."""
        link = Link(speaker, peer_of(context))

        async def write(frame: bytes) -> None:
            self.bytes_down += len(frame)
            await context.write(frame)

        writer = asyncio.create_task(speaker.outbox.run(write))
        try:
            if await self._greet(link, requests):
                await self._listen(link, requests)
        except asyncio.CancelledError:
            # The peer vanished or the server stops, so gRPC has cancelled this stream's task.
            # It would print a traceback if the task ended with this error.
            pass
        except ProtocolError as error:
            self.drop(link, str(error))
        finally:
            self._leave(link)
            link.ended()
            # The peer may be gone already, or go just now: then gRPC cancels this task here.
            with suppress(Exception, asyncio.CancelledError):
                await asyncio.wait_for(writer, PARTING)

    async def _listen(self, link: Link, requests: AsyncIterator[bytes]) -> None:
        while link.conversation.state is not State.CLOSED and not link.replaced:
            frame = await anext(requests, None)
            if frame is None:
                return
            self._hear(link, frame)
            del frame  # else each learner would keep its last one in memory

    def _hear(self, link: Link, frame: bytes) -> None:
        self.bytes_up += len(frame)
        message = link.speaker.read(frame)
        if link.conversation.step(Side.LEARNER, message):
            if isinstance(message, Ping):
                link.alive.set()
            else:
                self._audience.heard(link, message)
                link.fault = ""

    async def _greet(self, link: Link, requests: AsyncIterator[bytes]) -> bool:
        """Let a learner in, or say why not."""
        try:
            hello = await asyncio.wait_for(link.speaker.hello(requests), self._hello_timeout)
        except TimeoutError:
            raise ProtocolError(f"no Hello within {self._hello_timeout:g} s") from None
        if hello is None:
            return False
        link.conversation.step(Side.LEARNER, hello)
        link.learner, link.nonce, link.task = hello.learner, hello.nonce, hello.task
        link.setup = hello.setup
        refusal = self._put_aside(link.learner) or judge(
            hello,
            link.speaker.certified,
            fingerprint=self._fingerprint,
            setup=self._setup,
            anonymous=link.speaker.anonymous,
            closing=self.closing,
        )
        refusal = refusal or await self._contest(link)
        if refusal:
            self._complaints.warn(link.name, link.peer, "refused", refusal.reason)
            link.outbox.send(refusal)
            return False
        if hello.run_id and hello.version >= 0:
            link.outbox.held = (hello.run_id, hello.version)
        link.outbox.send(Welcome(learner=link.learner, run_id=self._run_id))
        self._enter(link)
        return True

    async def _contest(self, link: Link) -> Refusal | None:
        """Refuse a second process under a connected id if the first one is alive."""
        other = self._links.get(link.learner)
        if other is None:
            return None
        if other.nonce != link.nonce:
            if await other.is_alive(self._vanishing):
                other_name = "choose another --learner-id"
                if link.speaker.certified:  # its id is the certificate's
                    other_name = "give each process a certificate of its own"
                return Refusal(
                    reason=f"learner id {link.learner!r} is in use by another running process: "
                    f"stop it, or {other_name}"
                )
            log.warning("learner %s had vanished: another process takes its place", link.learner)
        self._replace(other, "replaced by a newer connection")
        return None

    def drop(self, link: Link, reason: str) -> None:
        """End a stream that broke the protocol; its learner may connect again."""
        said = sentence(reason, 160)
        link.fault = f"it broke the protocol: {said}"
        self._complaints.warn(link.name, link.peer, "broke the protocol", said)
        self._replace(link, f"protocol error: {said}", f"sent away: {said}")

    def _replace(self, link: Link, reason: str, lost: str = "") -> None:
        self._leave(link, lost)
        link.replace(reason)

    def _enter(self, link: Link) -> None:
        """Count a learner as connected."""
        if self._look is None:
            self._look_for_stuck()
        self._links[link.learner] = link
        again = link.learner in self._lost
        if again:
            timer, link.fault = self._lost.pop(link.learner)
            timer.cancel()
        self._audience.entered(link, again=again)

    def _look_for_stuck(self) -> None:
        """Drop learners that read nothing, so that messages to them do not pile up."""
        for link in list(self._links.values()):
            if link.outbox.stuck_for() > self._stall_timeout:
                self.drop(link, f"it has read nothing for {self._stall_timeout:.0f} s")
        loop = asyncio.get_running_loop()
        self._look = loop.call_later(self._stall_timeout / 4, self._look_for_stuck)

    def _leave(self, link: Link, lost: str = LOST) -> None:
        """Count a learner as cut off: its stream has ended. `lost`: why, if somebody is to hear."""
        learner = link.learner
        if self._links.get(learner) is not link:
            return
        del self._links[learner]
        self._audience.left(learner)
        returns = not link.speaker.anonymous
        said = "" if self.closing else lost
        self._audience.cut_off(learner, said, self._reconnect_timeout if returns else 0.0)
        if not returns:
            self._audience.gone(learner, lost or LOST, returns=False)
            return
        loop = asyncio.get_running_loop()
        give_up = partial(self._give_up, learner, lost or LOST)
        self._lost[learner] = loop.call_later(self._reconnect_timeout, give_up), link.fault

    def _give_up(self, learner: str, lost: str) -> None:
        self._lost.pop(learner, None)
        reason = f"{lost}, not back within {self._reconnect_timeout:.0f} s"
        self._audience.gone(learner, reason, returns=True)

    def dismiss(self, learner: str, reason: str) -> None:
        """End a learner's part in the run; it is refused from now on."""
        if learner in self._dismissed:
            return
        self._dismissed[learner] = reason
        log.warning("learner %s is put aside: %s", learner, reason)
        link = self._links.get(learner)
        if link is not None:
            link.outbox.send(Goodbye(reason=f"put aside: {reason}", final=True, failed=True))
            link.outbox.close()
            self._leave(link, "")
        if learner in self._lost:
            self._lost.pop(learner)[0].cancel()

    def _put_aside(self, learner: str) -> Refusal | None:
        reason = self._dismissed.get(learner)
        return Refusal(reason=f"put aside: {reason}") if reason else None

    def part(self) -> None:
        """This process is about to end: let nobody in from now on."""
        self.closing = True

    def close(self, reason: str, *, final: bool, failed: bool = False) -> None:
        """Say goodbye to all. `final`: the project has ended and learners need not come back."""
        self.closing = True
        self._complaints.close()
        if self._look:
            self._look.cancel()
        for timer, _ in self._lost.values():
            timer.cancel()
        for link in self._links.values():
            link.outbox.send(Goodbye(reason=reason, final=final, failed=failed))
            link.outbox.close()
