"""The dtypes that parameters may have, and their names."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Array: TypeAlias = NDArray[Any]

# Booleans, integers, floats and complex numbers have arithmetic and a plain byte representation.
# Objects would need pickle; strings have no mean.
TENSOR_KINDS = "biufc"
OPAQUE = "|V1"
"""Dtype of a model without a mean: 1-d arrays of bytes, whose length may change each round."""
_NARROW = re.compile(r"bfloat16|float8_\w+")  # from the package ml_dtypes


def kind_of(dtype: np.dtype[Any]) -> str:
    """NumPy's kind, but f for ml_dtypes' narrow floats, most of which NumPy calls void."""
    if dtype.isbuiltin == 2:  # a package has registered it
        return "f" if _NARROW.fullmatch(dtype.name) else "V"
    return dtype.kind


def dtype_name(dtype: np.dtype[Any]) -> str:
    """NumPy's string with the byte order, such as ``<f4``; for ml_dtypes' floats the name."""
    return dtype.name if dtype.isbuiltin == 2 else dtype.str


@lru_cache(maxsize=64)
def dtype_of(name: str) -> np.dtype[Any]:
    """The dtype of a name from `dtype_name`.

    Raises:
        ValueError: parameters cannot have this dtype, or a package for it is missing; says why.
    """
    if name == OPAQUE:
        return np.dtype(OPAQUE)
    if _NARROW.fullmatch(name):
        try:
            import ml_dtypes  # noqa: F401 - registers its names with NumPy
        except ImportError:
            raise ValueError(f"dtype {name} needs a package: pip install ml_dtypes") from None
    try:
        dtype = np.dtype(name)
    except (TypeError, ValueError, SyntaxError):
        dtype = np.dtype(object)  # refused below
    if kind_of(dtype) not in TENSOR_KINDS or dtype_name(dtype) != name:
        raise ValueError(f"dtype {name!r}, expected one of numbers or booleans")
    return dtype


def as_bits(array: Array) -> Array:
    """The same memory under a dtype that NumPy can write to files: bfloat16 as uint16."""
    return array.view(f"u{array.dtype.itemsize}") if array.dtype.isbuiltin == 2 else array


def from_bits(array: Array, name: str) -> Array:
    """Undo `as_bits` for an array whose dtype has that name."""
    dtype = dtype_of(name)
    ours = dtype.isbuiltin == 2 and array.dtype == f"u{dtype.itemsize}"
    return array.view(dtype) if ours else array
