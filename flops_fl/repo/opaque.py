"""Opaque parameters, which have no mean: they travel as bytes and come back as they were.

A ModelManager that returns ``bytes`` has an opaque model. So has one whose arrays change their
size from round to round; it says so with the attribute ``opaque_parameters = True``. Such arrays
travel in NumPy's file format, which Flower's strategies read, too.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from flops_fl.dtypes import OPAQUE
from flops_fl.repo.arrays import as_array
from flops_fl.types import Array, Parameters

ATTRIBUTE = "opaque_parameters"

_Bytes: TypeAlias = bytes | bytearray


@dataclass(frozen=True, slots=True)
class OpaqueItems:
    """The form in which the ModelManager gives and takes each item: bytes or an array."""

    as_bytes: tuple[bool, ...]

    def pack(self, index: int, item: Any) -> Array:
        """A copy of an item as an array of dtype `OPAQUE`, for the wire.

        Raises:
            ValueError: the item changed between bytes and array; the message ends with a remedy.
        """
        expected = index >= len(self.as_bytes) or self.as_bytes[index]
        if isinstance(item, _Bytes) != expected:
            now, before = ("an array", "bytes") if expected else ("bytes", "an array")
            raise ValueError(f"{now}, {before} at the start: give the same each time")
        return np.frombuffer(bytes(item) if expected else _npy(as_array(item)), OPAQUE)

    def unpack(self, parameters: Parameters) -> list[bytes | Array]:
        """The items that `pack` was given; arrays are new and writable.

        Raises:
            ValueError: the number of items is wrong, or one that was an array is not an array.
        """
        if len(parameters) != len(self.as_bytes):
            raise ValueError(f"{len(parameters)} items, expected {len(self.as_bytes)}")
        pairs = zip(parameters, self.as_bytes, strict=True)
        return [array.tobytes() if raw else _array(array.tobytes()) for array, raw in pairs]


def opaque_items(manager: Any, items: Sequence[Any]) -> OpaqueItems | None:
    """The form of a ModelManager's first parameters if they are opaque, else None."""
    as_bytes = tuple(isinstance(item, _Bytes) for item in items)
    return OpaqueItems(as_bytes) if any(as_bytes) or getattr(manager, ATTRIBUTE, False) else None


def _npy(array: Array) -> bytes:
    if array.dtype.isbuiltin == 2:
        raise ValueError(f"an array of dtype {array.dtype}, which NumPy cannot save: give float32")
    file = io.BytesIO()
    np.save(file, array, allow_pickle=False)
    return file.getvalue()


def _array(data: bytes) -> Array:
    try:
        array: Array = np.load(io.BytesIO(data), allow_pickle=False)
    except Exception as error:  # NumPy raises many types here
        raise ValueError(f"{len(data)} bytes that are no array in NumPy's file format") from error
    return array
