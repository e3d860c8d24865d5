"""The weighted mean of updates, taken one at a time, so that memory holds one model and not all.

McMahan et al. 2017 (arXiv:1602.05629) weigh each learner's parameters by its number of
examples. Here the mean is updated incrementally (West 1979, doi:10.1145/359146.359153),

    mean += (x - mean) * n / (n_1 + ... + n)

in float64, whatever the tensors' dtype. Unlike a sum that is divided at the end, it is exact if
all learners send the same tensor, and it cannot overflow. Float addition is not associative, so
only the same order of updates gives the same bits.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from flops_fl.core.refusals import BLOCK, check_update
from flops_fl.types import Array, Layout, Scalar, Update

SMALL = 1 << 20  # bytes; below, another copy costs nothing


class WeightedMean:
    """Adds updates one by one; an update may be dropped as soon as it was added.

    >>> mean = WeightedMean(Layout.of([np.float32([0.0])]))
    >>> mean.add(Update(learner="a", parameters=[np.float32([1.0])], examples=3))
    >>> mean.add(Update(learner="b", parameters=[np.float32([5.0])], examples=1))
    >>> mean.result()
    [array([2.], dtype=float32)]
    """

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        self.examples = 0
        self.updates = 0
        self._means: list[Array] = []
        self._bases: dict[int, Array] = {}

    def add(self, update: Update) -> None:
        """Fold one update, already checked."""
        self.examples += update.examples
        self.updates += 1
        if not self._means:
            self._start(update)
            return
        weight = update.examples / self.examples
        for index, mean in enumerate(self._means):
            array = np.ascontiguousarray(update.parameters[index]).reshape(-1)
            base = self._bases.get(index)
            _fold(mean, array, base, weight)

    def result(self) -> list[Array]:
        """The mean in the layout's dtypes; integers are rounded. Call it once: it frees its state.

        Raises:
            ValueError: nothing was added.
        """
        if not self._means:
            raise ValueError("the mean of no updates")
        out = []
        self._means.reverse()
        for index, spec in enumerate(self.layout.tensors):
            mean, base = self._means.pop(), self._bases.pop(index, None)
            if base is not None:
                values = _rounded(mean, base)
            elif spec.dtype == "|b1":
                values = np.rint(mean)  # a cast alone calls every fraction True
            else:
                values = _narrowed(mean, np.dtype(spec.dtype))
            del mean
            out.append(values.astype(spec.dtype, copy=False).reshape(spec.shape))
        return out

    def _start(self, update: Update) -> None:
        for index, array in enumerate(update.parameters):
            flat = np.ascontiguousarray(array).reshape(-1)
            wide = np.result_type(array.dtype.newbyteorder("="), np.float64)
            if array.dtype.kind in "iu":
                # Integers beyond 2**53 are no float64: fold differences to the first update.
                self._bases[index] = flat.copy()
                self._means.append(np.zeros(flat.shape, wide))
            else:
                self._means.append(flat.astype(wide))


class MeanAggregation:
    """A round's updates as their weighted mean: the `Aggregation` of federated averaging.

    Args:
        bound: Limits an update, or raises BadUpdate.
    """

    metrics: Mapping[str, Scalar] = {}

    def __init__(self, layout: Layout, bound: Callable[[Update], Update] | None = None) -> None:
        self.mean = WeightedMean(layout)
        self._bound = bound

    def add(self, update: Update) -> None:
        """Fold one update; the same bits need the same order.

        Raises:
            BadUpdate: the update is not usable; the mean has not changed.
        """
        self.mean.add(self.checked(update))

    def checked(self, update: Update) -> Update:
        """The update, within bounds.

        Raises:
            BadUpdate: it must not touch the global model.
        """
        check_update(update, self.mean.layout)
        return self._bound(update) if self._bound else update

    def result(self, failures: int) -> list[Array]:
        """The mean. Call it once."""
        return self.mean.result()


def _fold(mean: Array, array: Array, base: Array | None, weight: float) -> None:
    """mean += (array - base - mean) * weight, block by block."""
    scratch = np.empty(min(BLOCK, mean.size), mean.dtype)
    for at in range(0, mean.size, BLOCK):
        part = mean[at : at + BLOCK]
        step = scratch[: part.size]
        step[:] = array[at : at + BLOCK]  # faster than a cast inside the subtraction
        if base is not None:
            step -= base[at : at + BLOCK]
        step -= part
        step *= weight
        part += step


def _narrowed(mean: Array, dtype: np.dtype[Any]) -> Array:
    """Convert the mean to `dtype` in place, without a second copy of a large tensor."""
    if dtype.itemsize >= mean.itemsize or mean.nbytes < SMALL:
        return mean.astype(dtype, copy=False)
    count = mean.size
    narrow = mean.view(dtype)[:count]
    for at in range(0, count, BLOCK):
        # Elements get smaller, so a write never overtakes what is still to be read.
        narrow[at : at + BLOCK] = mean[at : at + BLOCK].copy()
    del narrow
    mean.resize(-(-count * dtype.itemsize // mean.itemsize), refcheck=False)
    return mean.view(dtype)[:count]


def _rounded(mean: Array, base: Array) -> Array:
    """base + mean to the nearest integer, and exactly base where the mean is 0."""
    bounds = np.iinfo(base.dtype)
    top = math.nextafter(bounds.max + 1.0, 0.0) if bounds.bits == 64 else float(bounds.max)
    values = np.clip(np.rint(mean + base), float(bounds.min), top)
    return np.where(mean == 0.0, base, values.astype(base.dtype))
