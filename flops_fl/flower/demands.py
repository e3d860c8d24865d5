"""What a server asks of its clients by entries of a task's config, under Flower's own names.

Whoever cannot do it refuses the task: a server that adds noise to clipped updates, or counts on
a proximal term, would not notice that there are none.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any

import numpy as np

from flops_fl.dtypes import dtype_of, kind_of
from flops_fl.errors import RepositoryError
from flops_fl.repo.contract import ManagedModel
from flops_fl.types import Array, Parameters, Scalar, Stage

log = logging.getLogger(__name__)

CLIPPING_NORM, NORM_BIT = "clipping_norm", "norm_bit"
"""Of Flower's wrappers DifferentialPrivacyClientSide...Clipping, and the answer to them."""
PROXIMAL_MU = "proximal_mu"
"""Of FedProx."""

_ROUNDING = 1.01  # by how much a dtype may lengthen a clipped update


def clipping_norm(config: Mapping[str, Scalar], model: ManagedModel) -> float | None:
    """How long an update may be (L2), None if of any length; checked before it is trained.

    Raises:
        RepositoryError: the config asks for what this repository cannot do.
    """
    if config.get(PROXIMAL_MU) and not model.takes_config:
        raise RepositoryError(
            f"the server's strategy (FedProx) needs the learners' help: let fit_model take an "
            f"argument config and use config[{PROXIMAL_MU!r}]",
            stage="fit_model",
        )
    if CLIPPING_NORM not in config:
        return None
    said = config[CLIPPING_NORM]
    limit = float(said) if isinstance(said, int | float) and said is not True else math.nan
    if not 0 < limit < math.inf:
        raise _unclipped(f"the server says {CLIPPING_NORM} = {said!r:.80}, expected a number > 0")
    if model.layout.opaque:
        raise _unclipped("this model's parameters are opaque, without a norm")
    for index, spec in enumerate(model.layout.tensors):
        if kind_of(dtype_of(spec.dtype)) not in "fc":
            raise _unclipped(
                f"tensor {index} is {spec}: only floats can be scaled, leave it out of "
                "get_model_parameters"
            )
    return limit


def clip(after: Parameters, before: Parameters, limit: float) -> tuple[list[Array], bool]:
    """`after`, moved towards `before` until no farther from it than `limit`; whether it had to be.

    The same bits as of Flower's `fixedclipping_mod` and `adaptiveclipping_mod`, which leave scalar
    tensors, and all of an update with a NaN, as they are.

    Raises:
        RepositoryError: it cannot be.
    """
    if [array.shape for array in after] != [array.shape for array in before]:
        raise _unclipped("the global model has other shapes than get_model_parameters gives")
    update = _difference(after, before)
    norm = _norm(update)
    if not math.isfinite(norm):
        raise _unclipped(f"the norm of the update is {norm}")
    factor = min(1.0, limit / norm) if norm else 1.0
    for array in update:
        np.multiply(array, factor, out=array)
    pairs = zip(after, before, update, strict=True)
    clipped = [np.asarray(old + change).astype(new.dtype) for new, old, change in pairs]
    rounded = _norm(_difference(clipped, before))
    if rounded > limit * _ROUNDING:
        dtypes = ", ".join(sorted({array.dtype.name for array in after}))
        raise _unclipped(f"in {dtypes} the update's norm becomes {rounded:.3g}, not {limit:.3g}")
    return clipped, factor < 1


def say_unused(stage: Stage, names: Iterable[str]) -> None:
    """Say once which entries of a config are lost, since the user's code is given none."""
    lost = sorted(set(names) - {CLIPPING_NORM, PROXIMAL_MU})
    if lost:
        _say_unused(stage, ", ".join(lost))


@cache  # each time would be too often
def _say_unused(stage: Stage, which: str) -> None:
    why = "fit_model has no argument config" if stage == "fit" else "evaluate_model takes none"
    log.warning("the server's config for %s has no effect here (%s): %s", stage, which, why)


def _difference(after: Parameters, before: Parameters) -> list[Array]:
    """In float32 or wider; scalar tensors stay arrays, which can be changed in place."""
    pairs = zip(after, before, strict=True)
    return [np.asarray(np.subtract(x, y, dtype=_wide(x, y))) for x, y in pairs]


def _wide(*arrays: Array) -> np.dtype[Any]:
    return np.result_type(*arrays, np.float32)


def _norm(arrays: Parameters) -> float:
    """In the arithmetic of Flower's own."""
    return float(np.sqrt(sum(np.linalg.norm(array.ravel()) ** 2 for array in arrays)))


def _unclipped(why: str) -> RepositoryError:
    return RepositoryError(
        f"the server's strategy wants clipped updates ({CLIPPING_NORM}), for differential "
        f"privacy, and this one's cannot be clipped: {why}",
        stage="fit",
    )
