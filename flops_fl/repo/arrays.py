"""What a ModelManager may give as a parameter, as a NumPy array."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from flops_fl.dtypes import TENSOR_KINDS, kind_of
from flops_fl.types import Array, Layout, Parameters

_REMEDIES = {
    "O": "make one array of numbers of it, or leave it out",
    "U": "text has no mean, leave it out",
    "S": "text has no mean, leave it out",
    "T": "text has no mean, leave it out",
    "M": "give it as numbers, .astype('int64')",
    "m": "give it as numbers, .astype('int64')",
}


def as_array(value: Any) -> Array:
    """An array of numbers or booleans from an array, a scalar, or what has ``__array__``.

    That is how JAX arrays and tensors on the CPU give themselves to NumPy. The memory may be
    shared with `value`.

    Raises:
        ValueError: it is none; the message ends with a remedy.
    """
    kind = "an array" if isinstance(value, np.ndarray) else f"a {type(value).__name__}"
    if not (np.isscalar(value) or hasattr(value, "__array__")):
        raise ValueError(f"{kind}, expected a NumPy array of numbers")
    detach = getattr(value, "detach", None)  # a tensor that would record a gradient
    try:
        array = np.asarray(detach() if callable(detach) else value)
    except Exception as error:  # each framework has its own
        raise ValueError(
            f"{kind} that NumPy cannot take ({type(error).__name__}: {error}): give it as a "
            "NumPy array on the CPU"
        ) from error
    if kind_of(array.dtype) in TENSOR_KINDS:
        return array
    remedy = _REMEDIES.get(array.dtype.kind, "give it as arrays of a NumPy float or integer")
    raise ValueError(f"{kind} of dtype {array.dtype}, expected numbers or booleans: {remedy}")


def in_layout(arrays: Sequence[Array], layout: Layout) -> list[Array]:
    """Copies of as many arrays, in the dtypes of `layout`.

    Raises:
        ValueError: a shape is another one.
    """
    out = []
    for index, (array, spec) in enumerate(zip(arrays, layout.tensors, strict=True)):
        if array.shape != spec.shape:
            raise ValueError(
                f"shape {array.shape} for array {index}, {spec.shape} at the start: shapes are "
                "fixed, unless the ModelManager says opaque_parameters = True"
            )
        # Frameworks drift (scikit-learn gives float64 for float32): the contract's
        # dtype wins. What does not fit becomes inf, which the aggregator refuses.
        with np.errstate(over="ignore", invalid="ignore"):
            out.append(array.astype(spec.dtype, order="C", copy=True))
    return out


def owned(parameters: Parameters, layout: Layout) -> list[Array]:
    """Writable copies of a model's parameters, in the dtypes of `layout`.

    They have these already, except from a stock Flower server.
    """
    known = len(parameters) == len(layout.tensors)
    return [
        np.array(p, layout.tensors[i].dtype if known else None, order="C", copy=True)
        for i, p in enumerate(parameters)
    ]
