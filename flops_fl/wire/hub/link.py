"""One learner's stream at the aggregator, as long as it is open."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from typing import Any
from urllib.parse import unquote

from flops_fl.net.tls import names_in, role_in
from flops_fl.text import sentence
from flops_fl.types import Setup
from flops_fl.wire.hub.speaker import Speaker
from flops_fl.wire.messages import Goodbye, Ping

PARTING = 5.0  # seconds that a learner has to read a goodbye


class Link:
    """One learner's stream, as long as it lasts."""

    def __init__(self, speaker: Speaker, peer: str) -> None:
        self.speaker = speaker
        self.conversation = speaker.conversation
        self.outbox = speaker.outbox
        self.peer = peer  # its address, for people
        self.learner = ""
        self.nonce = ""
        self.setup = Setup()
        self.task = ""  # key of the task that its Hello named, in progress or finished
        self.alive = asyncio.Event()
        """Set when the learner answers a Ping, and when its stream has ended."""
        self.fault = ""  # see `Links.fault`
        self.over = False
        self.replaced = False
        self._stream = asyncio.current_task()

    @property
    def name(self) -> str:
        """The learner's id, cleaned and cut for logs."""
        return sentence(self.learner, 60) or "(unnamed)"

    async def is_alive(self, vanishing: float) -> bool:
        """Whether the learner answers a Ping, or its stream is open after `vanishing` seconds.

        A process may be too busy to answer. The stream of one that has vanished is ended by
        gRPC's keepalive within `vanishing` seconds.
        """
        self.alive.clear()
        self.outbox.send(Ping())
        with suppress(TimeoutError):
            await asyncio.wait_for(self.alive.wait(), vanishing)
        return not self.over

    def replace(self, reason: str) -> None:
        """Say goodbye; the stream ends after `PARTING` seconds even if nobody reads it."""
        self.replaced = True
        self.outbox.send(Goodbye(reason=reason))
        if self._stream is not None:
            asyncio.get_running_loop().call_later(PARTING, self._stream.cancel)

    def ended(self) -> None:
        """Take note that the stream has ended."""
        self.over = True
        self.alive.set()
        self.outbox.close()


def certified_names(context: Any) -> Sequence[str] | None:
    """The names in the client's certificate (mutual TLS); None if it has sent none.

    A device's certificate, which is for putting data on a data server, names no learner.
    """
    shown = context.auth_context().get("x509_pem_cert")
    if not shown:
        return None
    return [] if role_in(shown[0]) == "device" else names_in(shown[0])


def peer_of(context: Any) -> str:
    """Where a stream comes from: ``127.0.0.1:4711`` for gRPC's ``ipv4:127.0.0.1:4711``."""
    return unquote(str(context.peer())).partition(":")[2]
