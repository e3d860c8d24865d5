"""The protocol of one kind of client: our own learners here, Flower clients in `flower/`."""

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
    """Translates one client's frames to and from the messages of a `Conversation`."""

    @property
    def conversation(self) -> Conversation:
        """The state of the conversation with the client."""

    @property
    def outbox(self) -> Sender:
        """Takes the messages to the client."""

    @property
    def certified(self) -> Sequence[str] | None:
        """Names in the client's certificate; None without mutual TLS."""

    @property
    def anonymous(self) -> bool:
        """Whether we gave the client its name; it cannot come back under such a name."""

    async def hello(self, requests: AsyncIterator[bytes]) -> Hello | None:
        """The client's Hello; None if it left without one.

        Raises:
            ProtocolError: the first frames are not a greeting of this protocol.
        """

    def read(self, frame: bytes) -> Message:
        """The message in a frame.

        Raises:
            ProtocolError: the frame does not belong to this protocol.
        """


class Native:
    """A learner of flops-fl, which speaks flops.proto."""

    anonymous = False

    def __init__(self, certified: Sequence[str] | None) -> None:
        self.conversation = Conversation()
        self.outbox: Sender = Outbox(Side.AGGREGATOR, self.conversation)
        self.certified = certified

    async def hello(self, requests: AsyncIterator[bytes]) -> Hello | None:
        """The learner's Hello; without an id in it, the certificate's first name is the id."""
        frame = await anext(requests, None)
        if frame is None:
            return None
        if len(frame) > LARGEST_HELLO:  # the sender is not identified yet
            raise ProtocolError(f"{len(frame)} bytes instead of a Hello")
        hello = decode(frame)
        if not isinstance(hello, Hello):
            raise ProtocolError(f"{type(hello).__name__} instead of a Hello")
        if hello.learner or not self.certified:
            return hello
        return replace(hello, learner=self.certified[0])

    def read(self, frame: bytes) -> Message:
        """The message in a frame of flops.proto."""
        return decode(frame)
