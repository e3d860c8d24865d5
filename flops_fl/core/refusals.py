"""What an update must not be: whatever is refused here never touches the global model."""

from __future__ import annotations

import numpy as np

from flops_fl.dtypes import kind_of
from flops_fl.errors import BadUpdate
from flops_fl.types import MAX_EXAMPLES, Array, Layout, Update

BLOCK = 1 << 15  # elements: three float64 blocks of 256 KB stay in a core's second-level cache


def check_update(update: Update, layout: Layout) -> None:
    """Refuse an update that must not touch the global model.

    Raises:
        BadUpdate: wrong tensors, a non-finite value, an absurd number of examples.
    """
    if not 0 < update.examples <= MAX_EXAMPLES:
        raise BadUpdate(f"{update.examples} training samples, expected 1 to {MAX_EXAMPLES}")
    difference = layout.difference(Layout.of(update.parameters))
    if difference:
        raise BadUpdate(difference)
    for index, array in enumerate(update.parameters):
        if kind_of(array.dtype) in "fc" and not finite(array):
            raise BadUpdate(f"tensor {index} ({layout.tensors[index]}) has NaN or infinite values")


def finite(array: Array) -> bool:
    """Whether no value of an array of floats is NaN or infinite."""
    flat = np.ascontiguousarray(array).reshape(-1)
    return all(bool(np.isfinite(flat[at : at + BLOCK]).all()) for at in range(0, flat.size, BLOCK))
