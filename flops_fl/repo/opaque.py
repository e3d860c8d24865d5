"""Parameters that have no mean: bytes on their way, and given back as what they were.

A ModelManager that gives ``bytes`` has an opaque model. So has one whose arrays change their
size from round to round, which it says by an attribute ``opaque_parameters = True``: they travel
in NumPy's file format, in which Flower's strategies find them, too.
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
    """The items of an opaque model, as what they are given back: bytes, or arrays."""

    as_bytes: tuple[bool, ...]

    def pack(self, index: int, item: Any) -> Array:
        """An item as bytes on their way, a copy.

        Raises:
            ValueError: it is not what it was at first; the message ends with a remedy.
        """
        expected = index >= len(self.as_bytes) or self.as_bytes[index]
        if isinstance(item, _Bytes) != expected:
            now, before = ("an array", "bytes") if expected else ("bytes", "an array")
            raise ValueError(f"{now}, {before} at the start: give the same each time")
        return np.frombuffer(bytes(item) if expected else _npy(as_array(item)), OPAQUE)

    def unpack(self, parameters: Parameters) -> list[bytes | Array]:
        """What `pack` was given; arrays are new and may be written to.

        Raises:
            ValueError: another number of items, or what should be an array is none.
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
        raise ValueError(f"an array of dtype {array.dtype}, which files cannot have: give float32")
    file = io.BytesIO()
    np.save(file, array, allow_pickle=False)
    return file.getvalue()


def _array(data: bytes) -> Array:
    try:
        array: Array = np.load(io.BytesIO(data), allow_pickle=False)
    except Exception as error:  # of many kinds
        raise ValueError(f"{len(data)} bytes that are no array in NumPy's file format") from error
    return array
