"""Stock Flower clients on the aggregator's port: Flower's FlowerService.Join.

`flwr.client.start_client` and the SDKs of other languages use it: one message for a task, with
all parameters in NumPy's file format, and one for the answer (flwr.proto.transport_pb2). Such
clients are admitted by the same code as our learners. They send no id: a client gets the id in its
certificate, or else ``flower-1``, ``flower-2``, ... in the order of arrival. The protocol has no
message that cancels a task, so we drop the answer to a cancelled one as stale.
"""

from __future__ import annotations

import logging
import uuid
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import grpc
import numpy as np
from flwr.proto import transport_pb2 as flower

from flops_fl.dtypes import dtype_of, kind_of
from flops_fl.errors import ProtocolError
from flops_fl.flower.values import from_scalar, from_tensor, to_scalar, to_tensor
from flops_fl.types import Array, Layout, Task
from flops_fl.wire.chunks import Chunks
from flops_fl.wire.hub.link import certified_names, peer_of
from flops_fl.wire.hub.links import Links
from flops_fl.wire.messages import (
    Cancel,
    Failure,
    Goodbye,
    Hello,
    Message,
    Order,
    Ping,
    Refusal,
    Result,
)
from flops_fl.wire.outbox import Version
from flops_fl.wire.pipe import Pipe
from flops_fl.wire.session import Conversation, Side

MOST_NAMED = 100  # addresses of which it is said that they are turned away

log = logging.getLogger(__name__)


class FlowerService:
    """Serves stock Flower clients.

    Args:
        links: The links of the aggregator's hub.
        layout: The layout of the global model.
    """

    def __init__(self, links: Links, layout: Layout) -> None:
        self._links = links
        self._layout = layout
        self._arrivals = 0
        self._packed: tuple[Chunks, list[bytes]] | None = None
        self._order: tuple[Order, bytes] | None = None

    async def join(self, requests: AsyncIterator[bytes], context: Any) -> None:
        """Serve one client's stream: the handler of FlowerService.Join."""
        certified = certified_names(context)
        if not certified:
            self._arrivals += 1
        name = certified[0] if certified else f"flower-{self._arrivals}"
        outbox = FlowerOutbox(self._frame, context)
        speaker = FlowerClient(name, certified, self._layout, outbox)
        await self._links.serve(speaker, requests, context)

    def _frame(self, order: Order, model: Chunks) -> bytes:
        """A task with its model in NumPy's file format.

        All clients with the same config share one frame, so clients that read slowly, or never,
        cost no memory of their own.
        """
        if self._order is not None and self._order[0] is order:
            return self._order[1]
        if self._packed is None or self._packed[0] is not model:
            self._packed = (model, [to_tensor(array) for array in model.parameters])
        tensors = flower.Parameters(tensors=self._packed[1], tensor_type="numpy.ndarray")
        config = {name: to_scalar(value) for name, value in order.task.config.items()}
        if order.task.stage == "fit":
            fit = flower.ServerMessage.FitIns(parameters=tensors, config=config)
            frame = flower.ServerMessage(fit_ins=fit).SerializeToString()
        else:
            evaluate = flower.ServerMessage.EvaluateIns(parameters=tensors, config=config)
            frame = flower.ServerMessage(evaluate_ins=evaluate).SerializeToString()
        self._order = (order, frame)
        return frame


class NoFlowerService:
    """Turns Flower clients away, in a sentence; reads none of their messages."""

    def __init__(self) -> None:
        self._seen: set[str] = set()

    async def join(self, requests: AsyncIterator[bytes], context: Any) -> None:
        """The handler of FlowerService.Join, in place of the other one."""
        host = peer_of(context).rpartition(":")[0]
        if host not in self._seen and len(self._seen) < MOST_NAMED:
            self._seen.add(host)
            log.warning("Flower clients at %s are turned away (--no-flower-clients)", host)
        await context.abort(
            _DENIED,
            "this aggregator takes no Flower clients (--no-flower-clients): start a learner of "
            "flops-fl, python -m learner",
        )


class FlowerClient:
    """Reads what a client answers; a `Speaker`."""

    def __init__(
        self, name: str, certified: Sequence[str] | None, layout: Layout, outbox: FlowerOutbox
    ) -> None:
        self.conversation = outbox.conversation
        self.outbox = outbox
        self.certified = certified
        self.anonymous = not certified
        self._name = name
        self._layout = layout

    async def hello(self, requests: AsyncIterator[bytes]) -> Hello | None:
        """A Hello on behalf of the client; None if it does not answer.

        A Flower client does not introduce itself. So we ask it for its properties, to see that
        the open stream has a client. Its model is taken to have the global model's layout.
        """
        self.outbox.question()
        frame = await anext(requests, None)
        if frame is None:
            return None
        if not isinstance(self.read(frame), Ping):
            raise ProtocolError("the client answers something that it was not asked")
        fingerprint = self._layout.fingerprint
        return Hello(learner=self._name, nonce=uuid.uuid4().hex, fingerprint=fingerprint)

    def read(self, frame: bytes) -> Message:
        """What a client's message says.

        Raises:
            ProtocolError: it is no answer to what was asked.
        """
        try:
            message = flower.ClientMessage.FromString(frame)
        except Exception as error:
            raise ProtocolError("not a message of Flower's transport") from error
        kind = message.WhichOneof("msg")
        if kind == "disconnect_res":
            return Goodbye()
        if kind == "get_properties_res":
            return Ping(answer=True)
        if kind not in ("fit_res", "evaluate_res") or not self.outbox.asked:
            raise ProtocolError(f"{kind or 'an empty message'} was not asked for")
        task = self.outbox.asked.popleft()
        if (kind == "fit_res") != (task.stage == "fit"):
            raise ProtocolError(f"{kind} in answer to {task.stage}")
        body = getattr(message, kind)
        if body.status.code != flower.Code.OK:
            reason = body.status.message or "the client reports a failure"
            return Failure(key=task.key, stage=task.stage, reason=reason)
        metrics = {name: from_scalar(value) for name, value in body.metrics.items()}
        examples = body.num_examples
        if kind == "evaluate_res":
            return Result(key=task.key, examples=examples, loss=body.loss, metrics=metrics)
        try:
            arrays = self._arrays(body.parameters.tensors)
        except ProtocolError as error:  # the update is bad, the stream is still good
            return Failure(key=task.key, stage="update", reason=str(error))
        return Result(key=task.key, examples=examples, metrics=metrics, parameters=arrays)

    def _arrays(self, tensors: Sequence[bytes]) -> list[Array]:
        """The tensors in the model's dtypes; `Aggregation` checks their number and shapes.

        Raises:
            ProtocolError: a tensor cannot be read, or its dtype does not fit the model's.
        """
        arrays = []
        for index, tensor in enumerate(tensors):
            try:
                arrays.append(from_tensor(tensor, self._layout))
            except ProtocolError as error:
                raise ProtocolError(str(error).replace("a tensor", f"tensor {index}", 1)) from error
        specs = self._layout.tensors
        if len(arrays) != len(specs) or self._layout.opaque:
            return arrays
        for index, (array, spec) in enumerate(zip(arrays, specs, strict=True)):
            expected = dtype_of(spec.dtype)
            numbers = "biufc" if kind_of(expected) == "c" else "biuf"
            if array.dtype.kind not in numbers:
                known = array.dtype.name if array.dtype.kind == "c" else array.dtype
                raise ProtocolError(f"tensor {index} is of dtype {known}, expected {expected.name}")
        with np.errstate(over="ignore", invalid="ignore"):
            return [array.astype(spec.dtype) for array, spec in zip(arrays, specs, strict=True)]


class FlowerOutbox:
    """Translates the hub's messages for a client into Flower's; a `Sender`."""

    held: Version | None = None  # a stock client keeps no parameters: each task carries them

    def __init__(self, encode: Callable[[Order, Chunks], bytes], context: Any) -> None:
        self.conversation = Conversation()
        self.asked: deque[Task] = deque()
        """Tasks that the client has yet to answer, including cancelled ones."""
        self._encode = encode
        self._context = context
        self._pipe: Pipe[bytes] = Pipe()

    def send(self, message: Message) -> None:
        """Queue a message if Flower's protocol has one for it; drop a cancelled task.

        Its effect on the conversation is immediate.
        """
        if not self.conversation.step(Side.AGGREGATOR, message):
            return
        if isinstance(message, Cancel):
            if self._pipe.drop(message.key):  # the task was not sent, so no answer will come
                self.asked.pop()
        elif isinstance(message, Refusal):
            code = grpc.StatusCode.UNAVAILABLE if message.retry else _DENIED
            self._context.set_code(code)
            self._context.set_details(message.reason)
        elif isinstance(message, Ping):
            self.question()
        elif isinstance(message, Goodbye):
            bye = flower.ServerMessage.ReconnectIns(seconds=0)
            self._put(flower.ServerMessage(reconnect_ins=bye))

    def question(self) -> None:
        """Ask for the client's properties: every client answers that at once, even with none."""
        question = flower.ServerMessage.GetPropertiesIns(config={})
        self._put(flower.ServerMessage(get_properties_ins=question))

    def send_order(self, order: Order, model: Chunks | None, frame: bytes | None = None) -> None:
        """Queue a task with its tensors."""
        assert model is not None  # see `held`
        self.conversation.step(Side.AGGREGATOR, order)
        self.asked.append(order.task)
        self._pipe.put(self._encode(order, model), order.task.key)

    def close(self) -> None:
        """Let `run` end after it has sent what is queued."""
        self._pipe.close()

    def stuck_for(self) -> float:
        """Seconds for which the client has read none of the bytes that wait for it."""
        return self._pipe.stuck_for()

    async def run(self, write: Callable[[bytes], Any]) -> None:
        """Write until closed."""
        while (frame := await self._pipe.get()) is not None:
            await write(frame)
            del frame  # else each idle client would keep the model that it was sent last

    def _put(self, message: Any) -> None:
        self._pipe.put(message.SerializeToString())


_DENIED = grpc.StatusCode.PERMISSION_DENIED
