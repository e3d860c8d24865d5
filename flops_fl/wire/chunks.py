"""Tensors <-> chunks: a model's bytes cut into frames and put together again. Pure.

A chunk is the protobuf message Frame{Chunk} of flops.proto, written and read by hand: its
head has a fixed layout, so its data is joined once on the way out and sliced on the way
in, where protobuf would copy every byte twice more.
"""

from __future__ import annotations

import struct
from bisect import bisect_right
from collections.abc import Iterator
from functools import cached_property
from itertools import accumulate

import numpy as np

from flops_fl.dtypes import OPAQUE
from flops_fl.errors import ProtocolError
from flops_fl.process.spool import FORGET_BYTES, forget
from flops_fl.types import Array, Parameters
from flops_fl.wire.messages import Chunk

CHUNK_BYTES = 1 << 20
RECENT_CHUNKS = 16
INLINE_BYTES = 256 << 10  # models up to this size travel with a message's header


def byte_views(parameters: Parameters) -> list[memoryview]:
    """Each tensor's bytes in C order; copies only what is not contiguous."""
    return [np.ascontiguousarray(p).reshape(-1).view(np.uint8).data for p in parameters]


class Chunks:
    """A model's frames, of `CHUNK_BYTES` of data each; they may span tensors.

    Each is made when it is first asked for. The latest are kept: learners that are sent the
    same model at about the same pace share them, and memory does not hold the model twice.
    """

    def __init__(self, version: int, parameters: Parameters) -> None:
        self.version = version
        self.parameters = parameters
        self._made = 0
        self._views = byte_views(parameters)
        self._starts = list(accumulate((len(view) for view in self._views), initial=0))
        self._recent: dict[int, bytes] = {}

    @property
    def nbytes(self) -> int:
        return self._starts[-1]

    @property
    def sizes(self) -> tuple[int, ...]:
        """Bytes of each item, if the model is an opaque one."""
        opaque = self.parameters[0].dtype == OPAQUE
        return tuple(len(view) for view in self._views) if opaque else ()

    @cached_property
    def inline(self) -> bytes:
        """All of it in one piece, if it is small enough to travel with a message's header."""
        return b"".join(self._views) if self._starts[-1] <= INLINE_BYTES else b""

    def __iter__(self) -> Iterator[tuple[bytes, int]]:
        """Frames, each with the number of the model's bytes in it."""
        for offset in range(0, self._starts[-1], CHUNK_BYTES):
            frame = self._recent.get(offset)
            if frame is None:
                frame = self._recent[offset] = chunk_frame(
                    self.version, offset, self._pieces(offset)
                )
                if len(self._recent) > RECENT_CHUNKS:
                    del self._recent[next(iter(self._recent))]
                self._made += CHUNK_BYTES
                if self._made % FORGET_BYTES == 0:
                    forget(self.parameters)
            yield frame, min(CHUNK_BYTES, self._starts[-1] - offset)

    def _pieces(self, offset: int) -> list[memoryview]:
        """The data from `offset` on, of the tensors that it lies in."""
        end = min(offset + CHUNK_BYTES, self._starts[-1])
        index, pieces = bisect_right(self._starts, offset) - 1, []
        while offset < end:
            start = self._starts[index]
            piece = self._views[index][offset - start : end - start]
            pieces.append(piece)
            offset, index = offset + len(piece), index + 1
        return pieces


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


# -- the frame by hand --------------------------------------------------------------------

_FIXED = struct.Struct("<BQBQB")
_TAG_FRAME_CHUNK = 15 << 3 | 2
_TAG_VERSION, _TAG_VERSIONFSET, _TAG_DATA = 1 << 3 | 1, 2 << 3 | 1, 3 << 3 | 2


def chunk_frame(version: int, offset: int, pieces: list[memoryview]) -> bytes:
    """Frame{Chunk{version, offset, data}} in protobuf's wire format, the pieces joined once."""
    size = _varint(sum(len(p) for p in pieces))
    head = _FIXED.pack(_TAG_VERSION, version, _TAG_VERSIONFSET, offset, _TAG_DATA) + size
    body = len(head) + sum(len(p) for p in pieces)
    return b"".join([bytes([_TAG_FRAME_CHUNK]), _varint(body), head, *pieces])


def slice_chunk(frame: bytes) -> Chunk | None:
    """Read what `chunk_frame` writes; None for any other frame, equivalent ones included."""
    if not frame or frame[0] != _TAG_FRAME_CHUNK:
        return None
    body, at = _read_varint(frame, 1)
    if body != len(frame) - at or body < _FIXED.size:
        return None
    tag_version, version, tag_offset, offset, tag_data = _FIXED.unpack_from(frame, at)
    if (tag_version, tag_offset, tag_data) != (_TAG_VERSION, _TAG_VERSIONFSET, _TAG_DATA):
        return None
    size, start = _read_varint(frame, at + _FIXED.size)
    if size != len(frame) - start:
        return None
    return Chunk(version=version, offset=offset, data=memoryview(frame)[start:])


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
