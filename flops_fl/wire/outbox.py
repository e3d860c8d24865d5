"""The sending half of a stream, the same on both ends: one writer, in order."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import Protocol

from flops_fl.types import Layout, Task
from flops_fl.wire.chunks import Chunks
from flops_fl.wire.codec import decode, encode
from flops_fl.wire.messages import Message, Order
from flops_fl.wire.session import Conversation, Side

# Idle links are pinged, so that no proxy forgets them during a long fit and a machine that
# vanished is noticed within 30 s (gRPC's keepalive guide; the server must permit the rate).
KEEPALIVE = [
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.http2.min_recv_ping_interval_without_data_ms", 5_000),
    ("grpc.max_send_message_length", -1),  # the codec has the limits
    ("grpc.max_receive_message_length", -1),
]
METHOD = "/flops.Federation/Join"


class Sender(Protocol):
    """What the hub needs of a link's sending half."""

    def send(self, message: Message) -> None:
        """Queue a message; its effect on the conversation is immediate."""

    def send_task(
        self, task: Task, layout: Layout, model: Chunks, when_sent: Callable[[], None]
    ) -> None:
        """Queue a task and its model; call `when_sent` once the learner will hold it."""

    def close(self) -> None:
        """Let `run` end after what is queued."""

    async def run(self, write: Callable[[bytes], Awaitable[object]]) -> None:
        """Write until closed."""


class Outbox:
    """Messages and tensors on their way out of one conversation.

    Tensors are taken from their iterable a chunk at a time, as the stream accepts them
    (backpressure), and dropped in the middle when their task is no longer the current one.
    """

    def __init__(self, side: Side, conversation: Conversation) -> None:
        self._side = side
        self._conversation = conversation
        self._queue: asyncio.Queue[bytes | tuple[str, Iterable[bytes], Callable[[], None]] | None]
        self._queue = asyncio.Queue()

    def send(self, message: Message) -> None:
        """Queue a message; its effect on the conversation is immediate."""
        if self._conversation.step(self._side, message):
            self._queue.put_nowait(encode(message))

    def send_task(
        self, task: Task, layout: Layout, model: Chunks, when_sent: Callable[[], None]
    ) -> None:
        """Queue a task and its model: in one message if it is small, else in chunks."""
        order = Order(task=task, layout=layout, inline=model.inline)
        self.send(order)
        if order.chunks_follow:
            self.send_tensors(task.key, model, when_sent)
        else:
            when_sent()

    def send_tensors(
        self, key: str, frames: Iterable[bytes], when_sent: Callable[[], None] = lambda: None
    ) -> None:
        """Queue the chunks of a model that belong to the task `key`."""
        self._queue.put_nowait((key, frames, when_sent))

    def close(self) -> None:
        """Let `run` end after what is queued."""
        self._queue.put_nowait(None)

    async def run(self, write: Callable[[bytes], Awaitable[object]]) -> None:
        """Write until closed."""
        while (item := await self._queue.get()) is not None:
            if isinstance(item, bytes):
                await write(item)
            else:
                await self._write_tensors(write, *item)

    async def _write_tensors(
        self,
        write: Callable[[bytes], Awaitable[object]],
        key: str,
        frames: Iterable[bytes],
        when_sent: Callable[[], None],
    ) -> None:
        for frame in frames:
            task = self._conversation.task
            if task is None or task.key != key:
                return
            self._conversation.step(self._side, decode(frame))
            await write(frame)
        when_sent()
