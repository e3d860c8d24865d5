"""A limit on how far one update may move the model.

Clipping bounds what a single learner, broken or hostile, can do to the mean (Sun et al. 2019,
"Can You Really Backdoor Federated Learning?", arXiv:1911.07963, section 3).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from flops_fl.core.refusals import BLOCK
from flops_fl.dtypes import kind_of
from flops_fl.errors import BadUpdate
from flops_fl.types import Array, Parameters, Update


@dataclass(frozen=True, slots=True)
class NormLimit:
    """The largest L2 norm of an update's change, over all its float tensors together."""

    norm: float
    refuse: bool = False
    """Refuse an update beyond the limit instead of scaling it down."""

    def bound(self, update: Update, base: Parameters) -> Update:
        """Limit an update's distance from `base`, the model that it was trained from.

        Raises:
            BadUpdate: the update is beyond the limit, and `refuse` is set.
        """
        pairs = list(zip(update.parameters, base, strict=True))
        found = math.sqrt(sum(_square_distance(new, old) for new, old in pairs))
        if found <= self.norm:
            return update
        if self.refuse:
            raise BadUpdate(f"its change has the norm {found:.4g}, --max-update-norm {self.norm:g}")
        share = self.norm / found
        return replace(update, parameters=[_scaled(new, old, share) for new, old in pairs])


def _square_distance(new: Array, old: Array) -> float:
    if kind_of(new.dtype) not in "fc":
        return 0.0
    ours, theirs, total = new.reshape(-1), old.reshape(-1), 0.0
    for at in range(0, ours.size, BLOCK):
        step = np.abs(_wide(ours[at : at + BLOCK]) - theirs[at : at + BLOCK])
        total += float(np.dot(step, step))
    return total


def _scaled(new: Array, old: Array, share: float) -> Array:
    """``old + (new - old) * share``, integers as they are."""
    if kind_of(new.dtype) not in "fc":
        return new
    out = np.empty(new.size, new.dtype)
    ours, theirs = new.reshape(-1), old.reshape(-1)
    for at in range(0, out.size, BLOCK):
        block = slice(at, at + BLOCK)
        out[block] = theirs[block] + (_wide(ours[block]) - theirs[block]) * share
    return out.reshape(new.shape)


def _wide(array: Array) -> Array:
    return array.astype(np.result_type(array.dtype.newbyteorder("="), np.float64))
