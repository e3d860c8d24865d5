"""Turns what a ModelManager returns as parameters into NumPy arrays."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from flops_fl.dtypes import TENSOR_KINDS, kind_of
from flops_fl.types import Array, Layout, Parameters

_REMEDIES = {
    "O": "convert it to one array of numbers, or leave it out",
    "U": "text has no mean, leave it out",
    "S": "text has no mean, leave it out",
    "T": "text has no mean, leave it out",
    "M": "give it as numbers, .astype('int64')",
    "m": "give it as numbers, .astype('int64')",
}


def as_array(value: Any) -> Array:
    """An array of numbers or booleans from an array, a scalar, or an object with ``__array__``.

    JAX arrays and PyTorch tensors on the CPU have ``__array__``. The array may share its memory
    with `value`.

    Raises:
        ValueError: `value` is not such an array; the message ends with a remedy.
    """
    kind = "an array" if isinstance(value, np.ndarray) else f"a {type(value).__name__}"
    if not (np.isscalar(value) or hasattr(value, "__array__")):
        raise ValueError(f"{kind}, expected a NumPy array of numbers")
    detach = getattr(value, "detach", None)  # a tensor that would record a gradient
    try:
        array = np.asarray(detach() if callable(detach) else value)
    except Exception as error:  # each framework raises another type
        raise ValueError(
            f"{kind} that NumPy cannot convert ({type(error).__name__}: {error}): give it as a "
            "NumPy array on the CPU"
        ) from error
    if kind_of(array.dtype) in TENSOR_KINDS:
        return array
    remedy = _REMEDIES.get(array.dtype.kind, "give it as arrays of a NumPy float or integer")
    raise ValueError(f"{kind} of dtype {array.dtype}, expected numbers or booleans: {remedy}")


def in_layout(arrays: Sequence[Array], layout: Layout) -> list[Array]:
    """Copies of `arrays`, in the dtypes of `layout`, which has as many tensors.

    Raises:
        ValueError: an array's shape differs from the layout's.
    """
    out = []
    for index, (array, spec) in enumerate(zip(arrays, layout.tensors, strict=True)):
        if array.shape != spec.shape:
            raise ValueError(
                f"shape {array.shape} for array {index}, {spec.shape} at the start: shapes are "
                "fixed, unless the ModelManager says opaque_parameters = True"
            )
        # Frameworks change dtypes (scikit-learn returns float64 for float32), so convert back
        # to the initial one. A value too large for it becomes inf, which the aggregator refuses.
        with np.errstate(over="ignore", invalid="ignore"):
            out.append(array.astype(spec.dtype, order="C", copy=True))
    return out


def owned(parameters: Parameters, layout: Layout) -> list[Array]:
    """Writable copies of a model's parameters, in the dtypes of `layout`.

    Only parameters from a stock Flower server may have other dtypes.
    """
    known = len(parameters) == len(layout.tensors)
    return [
        np.array(p, layout.tensors[i].dtype if known else None, order="C", copy=True)
        for i, p in enumerate(parameters)
    ]
