"""Arrays and scalars as Flower's transport carries them (flwr.proto.transport_pb2)."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from flwr.proto import transport_pb2 as flower

from flops_fl.dtypes import OPAQUE
from flops_fl.errors import ProtocolError
from flops_fl.text import sentence
from flops_fl.types import Array, Layout, Scalar

METHOD = "/flwr.proto.FlowerService/Join"
_SCALARS = {bool: "bool", int: "sint64", float: "double", str: "string", bytes: "bytes"}


_LARGEST = 2**31 - 1  # bytes of a message: gRPC's own limit


def largest_message(layout: Layout, opaque: int = _LARGEST) -> int:
    """Bytes of the largest message with a model of this layout, even in the widest dtype.

    Args:
        opaque: The largest size of an opaque model, which its layout does not tell.
    """
    if layout.opaque:
        return min(opaque + (1 << 20), _LARGEST)
    numbers = sum(math.prod(spec.shape) for spec in layout.tensors)
    return min(numbers * 16 + len(layout.tensors) * 1024 + (1 << 20), _LARGEST)


def plain(array: Array) -> Array:
    """The array in a dtype that Flower's own code can read: bfloat16 and float8 as float32.

    The conversion is exact. Whoever receives the array converts it back to the model's dtype.
    """
    return array.astype(np.float32) if array.dtype.isbuiltin == 2 else array


def to_tensor(array: Array) -> bytes:
    """An array as in Flower's messages: in NumPy's file format, or the bytes of an opaque model."""
    return array.tobytes() if array.dtype == OPAQUE else to_npy(array)


def from_tensor(data: bytes, layout: Layout) -> Array:
    """Undo `to_tensor` for a model of this layout.

    Raises:
        ProtocolError: it is no array in NumPy's file format, where it should be one.
    """
    return np.frombuffer(data, OPAQUE) if layout.opaque else from_npy(data)


def to_npy(array: Array) -> bytes:
    """An array in NumPy's file format, version 1 (numpy.lib.format), in a `plain` dtype."""
    file = io.BytesIO()
    np.save(file, plain(array), allow_pickle=False)
    return file.getvalue()


def from_npy(data: bytes) -> Array:
    """The array of a file in NumPy's format.

    Raises:
        ProtocolError: the data is no such file, or would need pickle.
    """
    try:
        array = np.load(io.BytesIO(data), allow_pickle=False)
    except Exception as error:
        raise ProtocolError(f"a tensor is not in NumPy's file format ({error})") from error
    if not isinstance(array, np.ndarray):
        raise ProtocolError("a tensor is not in NumPy's file format")
    return array


def to_scalar(value: Scalar) -> Any:
    """A value as Flower's Scalar message."""
    scalar = flower.Scalar()
    setattr(scalar, _SCALARS[type(value)], value)
    return scalar


def from_scalar(value: Any) -> Scalar:
    """The value of a Scalar message."""
    kind = value.WhichOneof("scalar")
    scalar: Scalar = getattr(value, kind) if kind else ""
    return scalar


def recordable(metrics: Mapping[str, Any] | None) -> dict[str, Scalar]:
    """A strategy's metrics for the history: numbers as they are, all else as short text."""
    out: dict[str, Scalar] = {}
    for name, value in (metrics or {}).items():
        single = isinstance(value, np.generic | np.ndarray) and value.size == 1
        known = value.item() if single else value
        number = isinstance(known, bool | int | float)
        out[sentence(str(name), 64)] = known if number else sentence(str(known), 200)
    return out
