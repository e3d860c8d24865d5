"""Which dtypes parameters may have, and what they are called."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Array: TypeAlias = NDArray[Any]

# Booleans, integers, floats and complex numbers: what arithmetic and a plain byte
# representation exist for. Objects would need pickle; strings have no mean.
TENSOR_KINDS = "biufc"
OPAQUE = "|V1"
"""Bytes of a model that has no mean: arrays of one dimension, of any length in each message."""
_NARROW = re.compile(r"bfloat16|float8_\w+")  # the package ml_dtypes has them


def kind_of(dtype: np.dtype[Any]) -> str:
    """NumPy's kind, but f for ml_dtypes' narrow floats, most of which NumPy calls void."""
    if dtype.isbuiltin == 2:  # registered by a package
        return "f" if _NARROW.fullmatch(dtype.name) else "V"
    return dtype.kind


def dtype_name(dtype: np.dtype[Any]) -> str:
    """NumPy's string, byte order included, such as ``<f4``; of ml_dtypes' floats the name."""
    return dtype.name if dtype.isbuiltin == 2 else dtype.str


@lru_cache(maxsize=64)
def dtype_of(name: str) -> np.dtype[Any]:
    """The dtype that `dtype_name` names.

    Raises:
        ValueError: parameters cannot have it, or not here; says why.
    """
    if name == OPAQUE:
        return np.dtype(OPAQUE)
    if _NARROW.fullmatch(name):
        try:
            import ml_dtypes  # noqa: F401 - NumPy knows its names from then on
        except ImportError:
            raise ValueError(f"dtype {name} needs a package: pip install ml_dtypes") from None
    try:
        dtype = np.dtype(name)
    except (TypeError, ValueError, SyntaxError):
        dtype = np.dtype(object)  # none that it could be
    if kind_of(dtype) not in TENSOR_KINDS or dtype_name(dtype) != name:
        raise ValueError(f"dtype {name!r} is none of numbers or booleans")
    return dtype


def as_bits(array: Array) -> Array:
    """The same memory under a dtype that NumPy can write to files: bfloat16 as uint16."""
    return array.view(f"u{array.dtype.itemsize}") if array.dtype.isbuiltin == 2 else array


def from_bits(array: Array, name: str) -> Array:
    """Undo `as_bits` for an array whose dtype has that name."""
    dtype = dtype_of(name)
    ours = dtype.isbuiltin == 2 and array.dtype == f"u{dtype.itemsize}"
    return array.view(dtype) if ours else array
