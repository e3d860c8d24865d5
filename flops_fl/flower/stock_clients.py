"""Stock Flower clients on the aggregator's port: Flower's FlowerService.Join.

`flwr.client.start_client` and the SDKs of other languages speak it: one message a task, with
all parameters in NumPy's file format, one message for the answer (flwr.proto.transport_pb2).
Such a client is a link like any other to the hub. It has no id of its own: it gets the one
in its certificate, or ``flower-1``, ``flower-2``, ... in the order of arrival. It cannot be
told to stop: an answer to a cancelled task is stale and dropped.
"""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any

import numpy as np
from flwr.proto import transport_pb2 as flower

from flops_fl.errors import ProtocolError
from flops_fl.flower.values import from_npy, from_scalar, to_npy, to_scalar
from flops_fl.types import Layout, Scalar, Task
from flops_fl.wire.chunks import Assembler, Chunks, byte_views
from flops_fl.wire.codec import decode
from flops_fl.wire.hub.links import Link, Links, certified_names
from flops_fl.wire.messages import Chunk, Failure, Goodbye, Hello, Message, Order, Result, Welcome
from flops_fl.wire.session import Side

log = logging.getLogger(__name__)


class FlowerService:
    """Lets stock Flower clients in."""

    def __init__(self, links: Links, fingerprint: str) -> None:
        self._links = links
        self._fingerprint = fingerprint
        self._arrivals = 0
        self._encoded: tuple[Iterable[bytes], list[bytes]] | None = None

    async def join(self, requests: AsyncIterator[bytes], context: Any) -> None:
        """Serve one client's stream: the handler of FlowerService.Join."""
        link = self._welcome(certified_names(context))
        outbox = FlowerOutbox(link, self._tensors)
        link.outbox = outbox

        async def write(frame: bytes) -> None:
            self._links.bytes_down += len(frame)
            await context.write(frame)

        writer = asyncio.create_task(outbox.run(write))
        self._links.enter(link)
        try:
            while (frame := await anext(requests, None)) is not None:
                self._links.bytes_up += len(frame)
                message = outbox.answer(frame)
                if message is not None and link.conversation.step(Side.LEARNER, message):
                    self._links.hear(link, message)
        except asyncio.CancelledError:
            pass  # as in Links.join
        except ProtocolError as error:
            log.warning("Flower client %s: %s", link.learner, error)
        finally:
            self._links.leave(link)
            outbox.close()
            with suppress(Exception):
                await asyncio.wait_for(writer, 5.0)

    def _welcome(self, certified: Sequence[str]) -> Link:
        self._arrivals += 1
        link = Link()
        link.learner = certified[0] if certified else f"flower-{self._arrivals}"
        link.nonce = uuid.uuid4().hex
        hello = Hello(learner=link.learner, nonce=link.nonce, fingerprint=self._fingerprint)
        link.conversation.step(Side.LEARNER, hello)
        link.conversation.step(Side.AGGREGATOR, Welcome(learner=link.learner, run_id=""))
        return link

    def _tensors(self, layout: Layout, frames: Iterable[bytes]) -> list[bytes]:
        """The global model in NumPy's file format, made once for all clients."""
        if self._encoded is None or self._encoded[0] is not frames:
            target = Assembler(layout.empty())
            for frame in frames:
                chunk = decode(frame)
                assert isinstance(chunk, Chunk)
                target.add(chunk.offset, chunk.data)
            self._encoded = (frames, [to_npy(array) for array in target.arrays])
        return self._encoded[1]


class FlowerOutbox:
    """Says in Flower's messages what the hub tells a link, and reads the answers."""

    def __init__(
        self, link: Link, tensors: Callable[[Layout, Iterable[bytes]], list[bytes]]
    ) -> None:
        self._conversation = link.conversation
        self._tensors = tensors
        self._queue: asyncio.Queue[bytes | None] = asyncio.Queue()
        self._asked: deque[tuple[Task, Layout]] = deque()  # answers come in this order

    def send(self, message: Message) -> None:
        """Of what needs no tensors a stock client understands goodbyes only."""
        if self._conversation.step(Side.AGGREGATOR, message) and isinstance(message, Goodbye):
            bye = flower.ServerMessage.ReconnectIns(seconds=0)
            self._put(flower.ServerMessage(reconnect_ins=bye))

    def send_task(
        self, task: Task, layout: Layout, model: Chunks, when_sent: Callable[[], None]
    ) -> None:
        """Queue a task with its tensors; `when_sent` is not called: the client keeps none."""
        self._conversation.step(Side.AGGREGATOR, Order(task=task, layout=layout))
        parameters = flower.Parameters(
            tensors=self._tensors(layout, model), tensor_type="numpy.ndarray"
        )
        config = {name: to_scalar(value) for name, value in task.config.items()}
        kind = "fit_ins" if task.stage == "fit" else "evaluate_ins"
        cls = getattr(flower.ServerMessage, "FitIns" if kind == "fit_ins" else "EvaluateIns")
        self._asked.append((task, layout))
        self._put(flower.ServerMessage(**{kind: cls(parameters=parameters, config=config)}))

    def close(self) -> None:
        """Let `run` end after what is queued."""
        self._queue.put_nowait(None)

    async def run(self, write: Callable[[bytes], Any]) -> None:
        """Write until closed."""
        while (frame := await self._queue.get()) is not None:
            await write(frame)

    def answer(self, frame: bytes) -> Message | None:
        """What a client's message says; None for its goodbye.

        Raises:
            ProtocolError: it is no answer to what was asked.
        """
        try:
            message = flower.ClientMessage.FromString(frame)
        except Exception as error:
            raise ProtocolError("not a message of Flower's transport") from error
        kind = message.WhichOneof("msg")
        if kind == "disconnect_res":
            return None
        if kind not in ("fit_res", "evaluate_res") or not self._asked:
            raise ProtocolError(f"{kind} was not asked for")
        task, layout = self._asked.popleft()
        if (kind == "fit_res") != (task.stage == "fit"):
            raise ProtocolError(f"{kind} in answer to {task.stage}")
        body = getattr(message, kind)
        if body.status.code != flower.Code.OK:
            reason = body.status.message or "the client reports a failure"
            return Failure(key=task.key, stage=task.stage, reason=reason)
        metrics = {name: from_scalar(value) for name, value in body.metrics.items()}
        if kind == "evaluate_res":
            return Result(key=task.key, examples=body.num_examples, loss=body.loss, metrics=metrics)
        return _update(task, layout, body, metrics)

    def _put(self, message: Any) -> None:
        self._queue.put_nowait(message.SerializeToString())


def _update(task: Task, layout: Layout, body: Any, metrics: Mapping[str, Scalar]) -> Result:
    """Bring the arrays into the contract's dtypes; shapes are judged by the collection."""
    arrays = [from_npy(tensor) for tensor in body.parameters.tensors]
    if len(arrays) == len(layout.tensors):
        with np.errstate(over="ignore", invalid="ignore"):
            arrays = [
                array.astype(spec.dtype) for array, spec in zip(arrays, layout.tensors, strict=True)
            ]
    return Result(
        key=task.key,
        examples=body.num_examples,
        metrics=metrics,
        layout=Layout.of(arrays),
        inline=b"".join(byte_views(arrays)),
    )
