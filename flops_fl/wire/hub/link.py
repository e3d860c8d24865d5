"""One learner's stream at the aggregator."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from typing import Any
from urllib.parse import unquote

from flops_fl.net.tls import names_in
from flops_fl.text import sentence
from flops_fl.types import Setup
from flops_fl.wire.hub.speaker import Speaker
from flops_fl.wire.messages import Goodbye, Ping
from flops_fl.wire.outbox import Sender
from flops_fl.wire.session import Conversation

PARTING = 5.0  # seconds for a goodbye to be read


class Link:
    """One learner's stream, as long as it lasts."""

    def __init__(self, speaker: Speaker, peer: str) -> None:
        self.speaker = speaker
        self.peer = peer  # its address, for people
        self.learner = ""
        self.nonce = ""
        self.setup = Setup()
        self.task = ""  # key of the one that it came with, in progress or finished
        self.alive = asyncio.Event()
        """Set when it answers a question, and when its stream has ended."""
        self.over = False
        self.replaced = False
        self._stream = asyncio.current_task()

    @property
    def conversation(self) -> Conversation:
        return self.speaker.conversation

    @property
    def outbox(self) -> Sender:
        return self.speaker.outbox

    @property
    def name(self) -> str:
        """What it is called, fit to be shown."""
        return sentence(self.learner, 60) or "(unnamed)"

    async def is_alive(self, vanishing: float) -> bool:
        """Whether the learner is there: it answers, or its stream stays open without an answer.

        A process may be too busy to answer. If it has vanished gRPC's keepalive ends its stream
        within `vanishing` seconds.
        """
        self.alive.clear()
        self.outbox.send(Ping())
        with suppress(TimeoutError):
            await asyncio.wait_for(self.alive.wait(), vanishing)
        return not self.over

    def replace(self, reason: str) -> None:
        """Say goodbye; the stream ends soon, whether or not anybody reads that."""
        self.replaced = True
        self.outbox.send(Goodbye(reason=reason))
        if self._stream is not None:
            asyncio.get_running_loop().call_later(PARTING, self._stream.cancel)

    def ended(self) -> None:
        """Its stream is over."""
        self.over = True
        self.alive.set()
        self.outbox.close()


def certified_names(context: Any) -> Sequence[str] | None:
    """The names in the client's certificate (mutual TLS); None if it has shown none."""
    shown = context.auth_context().get("x509_pem_cert")
    return names_in(shown[0]) if shown else None


def peer_of(context: Any) -> str:
    """Where a stream comes from: ``127.0.0.1:4711`` for gRPC's ``ipv4:127.0.0.1:4711``."""
    return unquote(str(context.peer())).partition(":")[2]
