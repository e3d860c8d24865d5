"""How a kind of client speaks on its stream: our own learners here, Flower's in `flower`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from typing import Protocol

from flops_fl.errors import ProtocolError
from flops_fl.wire.codec import decode
from flops_fl.wire.messages import Hello, Message
from flops_fl.wire.outbox import Outbox, Sender
from flops_fl.wire.session import Conversation, Side

LARGEST_HELLO = 1 << 16  # bytes


class Speaker(Protocol):
    """One client on one stream: between its frames and the messages of a `Conversation`."""

    @property
    def conversation(self) -> Conversation:
        """Where it stands."""

    @property
    def outbox(self) -> Sender:
        """What it is told goes here."""

    @property
    def certified(self) -> Sequence[str] | None:
        """Names in its certificate; None without mutual TLS."""

    @property
    def anonymous(self) -> bool:
        """Whether its name is a number that it was given: it cannot come back under it."""

    async def hello(self, requests: AsyncIterator[bytes]) -> Hello | None:
        """Who it says it is; None if it left without a word.

        Raises:
            ProtocolError: it does not say so in this language.
        """

    def read(self, frame: bytes) -> Message:
        """What it says.

        Raises:
            ProtocolError: nothing of this language.
        """


class Native:
    """A learner of ours."""

    anonymous = False

    def __init__(self, certified: Sequence[str] | None) -> None:
        self.conversation = Conversation()
        self.outbox: Sender = Outbox(Side.AGGREGATOR, self.conversation)
        self.certified = certified

    async def hello(self, requests: AsyncIterator[bytes]) -> Hello | None:
        """Its Hello, with the name of its certificate where it says none."""
        frame = await anext(requests, None)
        if frame is None:
            return None
        if len(frame) > LARGEST_HELLO:  # from somebody whom nobody knows yet
            raise ProtocolError(f"{len(frame)} bytes instead of a Hello")
        hello = decode(frame)
        if not isinstance(hello, Hello):
            raise ProtocolError(f"{type(hello).__name__} instead of a Hello")
        if hello.learner or not self.certified:
            return hello
        return replace(hello, learner=self.certified[0])

    def read(self, frame: bytes) -> Message:
        """A message of flops.proto."""
        return decode(frame)
