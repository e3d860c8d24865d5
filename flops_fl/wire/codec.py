"""Messages <-> frames. Pure: bytes in, values out, no I/O.

A frame is the protobuf message `Frame` of flops.proto. Chunks of tensors take a short cut
(`chunks.py`): their data is sliced out of the frame and not parsed. The bytes on the wire are
the same, and two copies of every byte of every model are saved.

For anything that is not a valid frame, `decode` raises ProtocolError and no other exception.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, get_args

from google.protobuf.message import DecodeError

from flops_fl.errors import ProtocolError
from flops_fl.types import Scalar, Stage, Task
from flops_fl.wire import flops_pb2 as pb
from flops_fl.wire.chunks import CHUNK_BYTES, chunk_frame, slice_chunk
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

MAX_FRAME = CHUNK_BYTES + (1 << 20)
LONGEST_TEXT = 1 << 15  # characters
_STAGES = get_args(Stage)
MAX_MODEL = 1 << 40  # bytes; a larger size is an attack or a bug, not a model


# Messages whose fields are plain values and have the same names in flops.proto.
_PLAIN: dict[str, type[Any]] = {
    "hello": Hello,
    "welcome": Welcome,
    "refusal": Refusal,
    "failure": Failure,
    "grant": Grant,
    "cancel": Cancel,
    "goodbye": Goodbye,
    "ping": Ping,
}
_NAME_OF = {cls: name for name, cls in _PLAIN.items()}


def encode(message: Message) -> bytes:
    """Turn a message into one frame."""
    if isinstance(message, Chunk):
        return chunk_frame(message.version, message.offset, [message.data])
    frame = pb.Frame()
    if isinstance(message, Order):
        _fill_order(frame.task, message)
    elif isinstance(message, Result):
        _fill_result(frame.result, message)
    else:
        body = getattr(frame, _NAME_OF[type(message)])
        body.SetInParent()
        for name in message.__slots__:
            value = getattr(message, name)
            if isinstance(value, Mapping):
                getattr(body, name).update(value)
            else:
                setattr(body, name, _utf8(value) if isinstance(value, str) else value)
    return bytes(frame.SerializeToString())


def decode(frame: bytes) -> Message:
    """Turn one frame into a message; a Chunk's data is a view into `frame`.

    Raises:
        ProtocolError: `frame` is too long, or not a frame of this protocol.
    """
    if len(frame) > MAX_FRAME:
        raise ProtocolError(f"frame of {len(frame)} bytes, expected at most {MAX_FRAME}")
    chunk = slice_chunk(frame)
    if chunk is not None:
        return chunk
    try:
        parsed = pb.Frame.FromString(frame)
    except DecodeError as error:
        raise ProtocolError("not a frame of the flops protocol") from error
    kind = parsed.WhichOneof("body")
    if kind is None:
        raise ProtocolError("frame without a known message: does the peer run a newer version?")
    body = getattr(parsed, kind)
    if kind == "chunk":
        return Chunk(version=body.version, offset=body.offset, data=memoryview(body.data))
    if kind == "task":
        return _read_order(body)
    if kind == "result":
        return _read_result(body)
    cls = _PLAIN[kind]
    values = {name: getattr(body, name) for name in cls.__slots__}
    if cls is Hello:
        values["versions"] = dict(values["versions"])
    message: Message = cls(**values)
    return message


# -- parts of messages ------------------------------------------------------------------------


def _fill_order(body: pb.Task, message: Order) -> None:
    task = message.task
    body.stage, body.run_id, body.round = task.stage, task.run_id, task.round
    body.version, body.seed, body.timeout = task.version, task.seed, task.timeout
    _fill_scalars(body.config, task.config)
    _fill_tensors(body, message)


def _read_order(body: pb.Task) -> Order:
    if body.stage not in _STAGES:
        raise ProtocolError(f"task of stage {body.stage!r}, expected fit or evaluate")
    if body.round < 0 or body.version < 0:
        raise ProtocolError(f"task of round {body.round} with parameters {body.version}")
    task = Task(
        stage=body.stage,  # type: ignore[arg-type]
        run_id=body.run_id,
        round=body.round,
        version=body.version,
        seed=body.seed,
        config=_read_scalars(body.config),
        timeout=body.timeout if math.isfinite(body.timeout) else 0.0,
    )
    nbytes, inline, sizes = _read_tensors(body)
    return Order(task=task, nbytes=nbytes, inline=inline, sizes=sizes)


def _fill_result(body: pb.Result, message: Result) -> None:
    body.key, body.examples, body.loss = message.key, message.examples, message.loss
    body.data = message.data
    _fill_scalars(body.metrics, message.metrics)
    _fill_tensors(body, message)


def _read_result(body: pb.Result) -> Result:
    nbytes, inline, sizes = _read_tensors(body)
    return Result(
        key=body.key,
        examples=body.examples,
        loss=body.loss,
        metrics=_read_scalars(body.metrics),
        nbytes=nbytes,
        inline=inline,
        sizes=sizes,
        data=body.data,
    )


def _fill_tensors(body: Any, message: Order | Result) -> None:
    if message.nbytes is not None:
        body.nbytes = message.nbytes
    if message.inline:
        body.inline = message.inline
    body.sizes.extend(message.sizes)


def _read_tensors(body: Any) -> tuple[int | None, bytes, tuple[int, ...]]:
    """The fields `nbytes`, `inline` and `sizes`."""
    if not body.HasField("nbytes"):
        nbytes = None
    elif (nbytes := body.nbytes) > MAX_MODEL:
        raise ProtocolError(f"a model of {nbytes} bytes, expected at most {MAX_MODEL}")
    inline = body.inline  # each access copies it
    if inline and nbytes != len(inline):
        raise ProtocolError(f"{len(inline)} bytes of tensors, announced as {nbytes}")
    return nbytes, inline, tuple(body.sizes)


def _fill_scalars(target: Any, values: Mapping[str, Scalar]) -> None:
    for name, value in values.items():
        scalar = target[_utf8(name)]
        if isinstance(value, bool):  # before int: a bool is an int, too
            scalar.flag = value
        elif isinstance(value, int):
            scalar.integer = value
        elif isinstance(value, float):
            scalar.number = value
        elif isinstance(value, str):
            scalar.text = _utf8(value)
        else:
            scalar.raw = value


def _read_scalars(source: Any) -> dict[str, Scalar]:
    out: dict[str, Scalar] = {}
    for name, scalar in source.items():
        kind = scalar.WhichOneof("value")
        if kind is None:
            raise ProtocolError(f"no value of a known kind for {name!r:.60}")
        out[name] = getattr(scalar, kind)
    return out


def _utf8(text: str) -> str:
    """Text that protobuf accepts, cut to `LONGEST_TEXT`: user code may send any string."""
    return text[:LONGEST_TEXT].encode("utf-8", "replace").decode()
