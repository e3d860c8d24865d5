"""The sending half of a stream, the same on both ends: one writer keeps messages in order."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Protocol, TypeAlias

from flops_fl.wire.chunks import Chunks
from flops_fl.wire.codec import encode
from flops_fl.wire.messages import Cancel, Message, Order
from flops_fl.wire.pipe import Pipe
from flops_fl.wire.session import Conversation, Side

Version: TypeAlias = tuple[str, int]
"""A run id and the version of the parameters in it."""


class Sender(Protocol):
    """What the hub needs of a link's sending half."""

    held: Version | None
    """The parameters that have been sent completely, so that the other end holds them."""

    def send(self, message: Message) -> None:
        """Queue a message. The conversation's state changes at once."""

    def send_order(self, order: Order, model: Chunks | None, frame: bytes | None = None) -> None:
        """Queue a task, and its model if the learner does not hold it.

        Args:
            frame: The encoded order, shared by many learners.
        """

    def close(self) -> None:
        """Let `run` end after what is queued."""

    def stuck_for(self) -> float:
        """Seconds for which the other end has taken nothing of what it was given."""

    async def run(self, write: Callable[[bytes], Awaitable[object]]) -> None:
        """Write until closed."""


class Outbox:
    """Messages and tensors on their way out of one conversation.

    Tensors are taken from their `Chunks` one chunk at a time, as the stream accepts them
    (backpressure). Those of a task that is no longer the current one are dropped midway.
    """

    def __init__(self, side: Side, conversation: Conversation) -> None:
        self.held: Version | None = None
        self._side = side
        self._conversation = conversation
        self._pipe: Pipe[bytes | tuple[str, Chunks, Version | None]] = Pipe()

    def send(self, message: Message, frame: bytes | None = None) -> None:
        """Queue a message; `frame` is its encoding, if the caller has one."""
        if self._conversation.step(self._side, message):
            if isinstance(message, Cancel):
                # Its tensors, so that for a learner who reads nothing one model is queued at most.
                self._pipe.drop(message.key)
            self._pipe.put(encode(message) if frame is None else frame)

    def send_order(self, order: Order, model: Chunks | None, frame: bytes | None = None) -> None:
        """Queue a task, and its model in chunks if it does not travel with the order."""
        self.send(order, frame)
        if model is None:
            return
        version = (order.task.run_id, order.task.version)
        self.held = None if order.chunks_follow else version
        if order.chunks_follow:
            self.send_tensors(order.task.key, model, version)

    def send_tensors(self, key: str, model: Chunks, version: Version | None = None) -> None:
        """Queue the chunks of a model that belong to the task `key`.

        Args:
            version: The parameters that the other end holds once it has all chunks.
        """
        self._pipe.put((key, model, version), key)

    def close(self) -> None:
        """Let `run` end after what is queued."""
        self._pipe.close()

    def stuck_for(self) -> float:
        """Seconds for which the other end has taken nothing of what it was given."""
        return self._pipe.stuck_for()

    async def run(self, write: Callable[[bytes], Awaitable[object]]) -> None:
        """Write until closed."""
        while (item := await self._pipe.get()) is not None:
            if isinstance(item, bytes):
                await write(item)
            else:
                await self._write_tensors(write, *item)
            del item  # else each idle learner would keep the model that it was sent last

    async def _write_tensors(
        self,
        write: Callable[[bytes], Awaitable[object]],
        key: str,
        model: Chunks,
        version: Version | None,
    ) -> None:
        for frame, size in model:
            task = self._conversation.task
            if task is None or task.key != key:
                return
            if self._side is Side.LEARNER:
                self._conversation.sent_chunk(size)
            await write(frame)
            self._pipe.progress()
        self.held = version
