"""Tensors <-> chunks: cut a model's bytes into frames and put them together again. No I/O.

A chunk is the protobuf message Frame{Chunk} of flops.proto, encoded and decoded by hand. Its
head has a fixed layout, so the sender joins its data once and the receiver slices it out of
the frame. Protobuf would copy every byte twice more.
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
from flops_fl.process.spool import RELEASE_BYTES, release_pages
from flops_fl.types import Array, Layout, Parameters
from flops_fl.wire.messages import Chunk

CHUNK_BYTES = 1 << 20
RECENT_CHUNKS = 16
INLINE_BYTES = 256 << 10  # models up to this size travel with a message's header


def byte_views(parameters: Parameters) -> list[memoryview]:
    """Each tensor's bytes in C order; copies only tensors that are not contiguous."""
    return [np.ascontiguousarray(p).reshape(-1).view(np.uint8).data for p in parameters]


def arrays_in(data: bytes, layout: Layout) -> list[Array]:
    """A model's tensors from its bytes, of which they are views that cannot be written to."""
    offsets = accumulate((spec.nbytes for spec in layout.tensors), initial=0)
    return [
        np.ndarray(spec.shape, spec.dtype, data, offset)
        for spec, offset in zip(layout.tensors, offsets, strict=False)
    ]


class Chunks:
    """A model's frames, of `CHUNK_BYTES` of data each; a frame may span tensors.

    A frame is encoded when it is first asked for, and only the latest `RECENT_CHUNKS` are kept.
    Learners that receive the same model at about the same pace share these frames, so memory
    does not hold the model twice.
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
        """Bytes of each item of an opaque model; empty for any other model."""
        opaque = self.parameters[0].dtype == OPAQUE
        return tuple(len(view) for view in self._views) if opaque else ()

    @cached_property
    def inline(self) -> bytes:
        """The whole model in one piece if it is at most `INLINE_BYTES` long, else empty."""
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
                if self._made % RELEASE_BYTES == 0:
                    release_pages(self.parameters)
            yield frame, min(CHUNK_BYTES, self._starts[-1] - offset)

    def _pieces(self, offset: int) -> list[memoryview]:
        """The data of the chunk that begins at `offset`: one piece for each tensor it spans."""
        end = min(offset + CHUNK_BYTES, self._starts[-1])
        index, pieces = bisect_right(self._starts, offset) - 1, []
        while offset < end:
            start = self._starts[index]
            piece = self._views[index][offset - start : end - start]
            pieces.append(piece)
            offset, index = offset + len(piece), index + 1
        return pieces


class Assembler:
    """Writes the data of chunks straight into the arrays that it belongs to."""

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
            ProtocolError: this is not the next piece, or goes beyond the announced size.
        """
        if offset != self.received or offset + len(data) > self.expected:
            raise ProtocolError(
                f"tensor bytes {offset} to {offset + len(data)}, expected them to continue at "
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
_TAG_VERSION, _TAG_OFFSET, _TAG_DATA = 1 << 3 | 1, 2 << 3 | 1, 3 << 3 | 2


def chunk_frame(version: int, offset: int, pieces: list[memoryview]) -> bytes:
    """Encode Frame{Chunk{version, offset, data}} in protobuf's wire format, copying data once."""
    size = _varint(sum(len(p) for p in pieces))
    head = _FIXED.pack(_TAG_VERSION, version, _TAG_OFFSET, offset, _TAG_DATA) + size
    body = len(head) + sum(len(p) for p in pieces)
    return b"".join([bytes([_TAG_FRAME_CHUNK]), _varint(body), head, *pieces])


def slice_chunk(frame: bytes) -> Chunk | None:
    """Decode a frame of `chunk_frame`; None for any other frame, even an equivalent encoding."""
    if not frame or frame[0] != _TAG_FRAME_CHUNK:
        return None
    body, at = _read_varint(frame, 1)
    if body != len(frame) - at or body < _FIXED.size:
        return None
    tag_version, version, tag_offset, offset, tag_data = _FIXED.unpack_from(frame, at)
    if (tag_version, tag_offset, tag_data) != (_TAG_VERSION, _TAG_OFFSET, _TAG_DATA):
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
    """The value and the position after it; the value is -1 if it does not end in five bytes."""
    value = 0
    for shift, byte in enumerate(frame[at : at + 5]):
        value |= (byte & 0x7F) << (7 * shift)
        if byte < 0x80:
            return value, at + shift + 1
    return -1, at
