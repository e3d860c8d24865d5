"""Messages and tensors <-> frames. Pure: bytes in, values out, no I/O.

A frame is the protobuf message `Frame` of flops.proto. Chunks of tensors take a short cut
that yields the very same bytes: their data is sliced out of the frame, not parsed, which
saves two copies of every byte of every model.

`decode` raises ProtocolError, and nothing else, on anything that is not a valid frame.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from typing import Any, get_args

import numpy as np
from google.protobuf.message import DecodeError

from flops_fl.errors import ProtocolError
from flops_fl.types import TENSOR_KINDS, Array, Layout, Parameters, Scalar, Stage, Task, TensorSpec
from flops_fl.wire import flops_pb2 as pb
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

CHUNK_BYTES = 4 << 20
MAX_FRAME = CHUNK_BYTES + (1 << 20)
MAX_MODEL = 1 << 40  # bytes; a layout beyond it is an attack or a bug, not a model
INLINE_BYTES = 256 << 10  # results up to this size travel with their header


# Messages whose fields are plain and named alike in flops.proto.
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
        return chunk_frame(message.of, message.offset, [message.data])
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
        raise ProtocolError(f"frame of {len(frame)} bytes, at most {MAX_FRAME} are allowed")
    chunk = _slice_chunk(frame)
    if chunk is not None:
        return chunk
    try:
        parsed = pb.Frame.FromString(frame)
    except DecodeError as error:
        raise ProtocolError("not a frame of the flops protocol") from error
    kind = parsed.WhichOneof("body")
    if kind is None:
        raise ProtocolError("a frame without a message: is the peer a newer version?")
    body = getattr(parsed, kind)
    if kind == "chunk":
        return Chunk(of=body.of, offset=body.offset, data=memoryview(body.data))
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


# -- tensors --------------------------------------------------------------------------------


def byte_views(parameters: Parameters) -> list[memoryview]:
    """Each tensor's bytes in C order; copies only what is not contiguous."""
    return [np.ascontiguousarray(p).reshape(-1).view(np.uint8).data for p in parameters]


def chunks(of: int, parameters: Parameters) -> Iterator[bytes]:
    """Cut a model into frames of `CHUNK_BYTES` of data each; they may span tensors."""
    offset, pieces, room = 0, [], CHUNK_BYTES
    for view in byte_views(parameters):
        start = 0
        while start < len(view):
            piece = view[start : start + room]
            pieces.append(piece)
            start += len(piece)
            room -= len(piece)
            if room == 0:
                yield chunk_frame(of, offset, pieces)
                offset, pieces, room = offset + CHUNK_BYTES, [], CHUNK_BYTES
    if pieces:
        yield chunk_frame(of, offset, pieces)


def inline(parameters: Parameters) -> bytes:
    """A small model's bytes as they travel inside a Result."""
    return b"".join(byte_views(parameters))


class Assembler:
    """Puts chunks together, straight into the arrays they belong to."""

    def __init__(self, arrays: list[Array]) -> None:
        self.arrays = arrays
        self.expected = sum(a.nbytes for a in arrays)
        self.received = 0
        self._views = [a.reshape(-1).view(np.uint8) for a in arrays]
        self._tensor, self._at = 0, 0

    @property
    def complete(self) -> bool:
        return self.received == self.expected

    def add(self, offset: int, data: bytes | memoryview) -> None:
        """Take the next piece.

        Raises:
            ProtocolError: it is not the next one, or more than was announced.
        """
        if offset != self.received or offset + len(data) > self.expected:
            raise ProtocolError(
                f"tensor bytes {offset} to {offset + len(data)}, expected to go on at "
                f"{self.received} of {self.expected}"
            )
        source = np.frombuffer(data, np.uint8)
        taken = 0
        while taken < len(source):
            view = self._views[self._tensor]
            piece = source[taken : taken + len(view) - self._at]
            view[self._at : self._at + len(piece)] = piece
            taken += len(piece)
            self._at += len(piece)
            if self._at == len(view):
                self._tensor, self._at = self._tensor + 1, 0
        self.received += len(source)


# -- the parts of messages --------------------------------------------------------------------

_FIXED = struct.Struct("<BQBQB")
_TAG_FRAME_CHUNK = 15 << 3 | 2
_TAG_OF, _TAG_OFFSET, _TAG_DATA = 1 << 3 | 1, 2 << 3 | 1, 3 << 3 | 2


def chunk_frame(of: int, offset: int, pieces: list[memoryview]) -> bytes:
    """Frame{Chunk{of, offset, data}} in protobuf's wire format, the pieces joined once."""
    size = _varint(sum(len(p) for p in pieces))
    head = _FIXED.pack(_TAG_OF, of, _TAG_OFFSET, offset, _TAG_DATA) + size
    body = len(head) + sum(len(p) for p in pieces)
    return b"".join([bytes([_TAG_FRAME_CHUNK]), _varint(body), head, *pieces])


def _slice_chunk(frame: bytes) -> Chunk | None:
    """Read what `chunk_frame` writes; None for any other frame, equivalent ones included."""
    if not frame or frame[0] != _TAG_FRAME_CHUNK:
        return None
    body, at = _read_varint(frame, 1)
    if body != len(frame) - at or body < _FIXED.size:
        return None
    tag_of, of, tag_offset, offset, tag_data = _FIXED.unpack_from(frame, at)
    if (tag_of, tag_offset, tag_data) != (_TAG_OF, _TAG_OFFSET, _TAG_DATA):
        return None
    size, start = _read_varint(frame, at + _FIXED.size)
    if size != len(frame) - start:
        return None
    return Chunk(of=of, offset=offset, data=memoryview(frame)[start:])


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _read_varint(frame: bytes, at: int) -> tuple[int, int]:
    """Value and the position after it; -1 where none ends within five bytes."""
    value = 0
    for shift, byte in enumerate(frame[at : at + 5]):
        value |= (byte & 0x7F) << (7 * shift)
        if byte < 0x80:
            return value, at + shift + 1
    return -1, at


def _fill_order(body: pb.Task, message: Order) -> None:
    task = message.task
    body.stage, body.run_id, body.round = task.stage, task.run_id, task.round
    body.version, body.seed = task.version, task.seed
    _fill_scalars(body.config, task.config)
    if message.layout:
        _fill_layout(body.tensors, message.layout)


def _read_order(body: pb.Task) -> Order:
    if body.stage not in get_args(Stage):
        raise ProtocolError(f"task of stage {body.stage!r}, expected fit or evaluate")
    task = Task(
        stage=body.stage,  # type: ignore[arg-type]
        run_id=body.run_id,
        round=body.round,
        version=body.version,
        seed=body.seed,
        config=_read_scalars(body.config),
    )
    return Order(task=task, layout=_read_layout(body.tensors))


def _fill_result(body: pb.Result, message: Result) -> None:
    body.key, body.examples, body.loss = message.key, message.examples, message.loss
    body.inline = message.inline
    _fill_scalars(body.metrics, message.metrics)
    if message.layout:
        _fill_layout(body.tensors, message.layout)


def _read_result(body: pb.Result) -> Result:
    layout = _read_layout(body.tensors)
    if body.inline and (layout is None or layout.nbytes != len(body.inline)):
        raise ProtocolError(f"{len(body.inline)} bytes of tensors do not fit their layout")
    return Result(
        key=body.key,
        examples=body.examples,
        loss=body.loss,
        metrics=_read_scalars(body.metrics),
        layout=layout,
        inline=body.inline,
    )


def _fill_layout(tensors: Any, layout: Layout) -> None:
    for spec in layout.tensors:
        tensors.add(dtype=spec.dtype, shape=spec.shape)


def _read_layout(tensors: Any) -> Layout | None:
    if not tensors:
        return None
    layout = Layout(tuple(_read_spec(t) for t in tensors))
    if layout.nbytes > MAX_MODEL:
        raise ProtocolError(f"a model of {layout.nbytes} bytes, at most {MAX_MODEL} are allowed")
    return layout


def _read_spec(tensor: pb.Tensor) -> TensorSpec:
    try:
        dtype = np.dtype(tensor.dtype)
    except (TypeError, ValueError, SyntaxError) as error:
        raise ProtocolError(f"tensor of dtype {tensor.dtype!r}, expected one of numpy's") from error
    if dtype.kind not in TENSOR_KINDS or dtype.str != tensor.dtype or len(tensor.shape) > 32:
        raise ProtocolError(f"tensor {tensor.dtype!r}{list(tensor.shape)} cannot be averaged")
    return TensorSpec(tensor.dtype, tuple(tensor.shape))


def _fill_scalars(target: Any, values: Mapping[str, Scalar]) -> None:
    for name, value in values.items():
        scalar = target[_utf8(name)]
        if isinstance(value, bool):  # before int: a bool is one
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
    for name in source:
        kind = source[name].WhichOneof("value")
        if kind is None:
            raise ProtocolError(f"{name!r} has no value of a known kind")
        out[name] = getattr(source[name], kind)
    return out


def _utf8(text: str) -> str:
    """Text that protobuf accepts: user code may put lone surrogates into its messages."""
    return text.encode("utf-8", "replace").decode()
