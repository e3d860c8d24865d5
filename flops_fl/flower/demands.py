"""What a server demands of its clients by entries of a task's config, under Flower's names.

A learner that cannot meet a demand refuses the task. Otherwise a server that adds noise to
clipped updates would not notice that nobody clipped, nor FedProx that nobody has a proximal term.
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
from flops_fl.text import sentence
from flops_fl.types import Array, Parameters, Scalar, Stage

log = logging.getLogger(__name__)

CLIPPING_NORM, NORM_BIT = "clipping_norm", "norm_bit"
"""Entry of Flower's wrappers DifferentialPrivacyClientSide...Clipping, and the reply to them."""
PROXIMAL_MU = "proximal_mu"
"""Entry of FedProx."""

_ROUNDING = 1.01  # factor by which rounding to the model's dtype may lengthen a clipped update


def clipping_norm(config: Mapping[str, Scalar], model: ManagedModel) -> float | None:
    """The largest L2 norm that an update may have, None if there is no limit.

    The learner checks the demands before it trains.

    Raises:
        RepositoryError: the config demands what this repository cannot do.
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
    """Scale the update from `before` to `after` down to the L2 norm `limit`.

    The result has the same bits as that of Flower's `fixedclipping_mod` and
    `adaptiveclipping_mod`, with two exceptions: Flower's mods leave scalar tensors as they are,
    and let an update with a NaN pass.

    Returns:
        The clipped parameters, and whether the update was longer than `limit`.

    Raises:
        RepositoryError: this update cannot be clipped.
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
    """Warn once about config entries that the user's code cannot get, as it takes no config."""
    lost = sorted(set(names) - {CLIPPING_NORM, PROXIMAL_MU})
    if lost:
        _say_unused(stage, sentence(", ".join(lost)))


@cache  # one warning a process, not one a task
def _say_unused(stage: Stage, which: str) -> None:
    why = "fit_model has no argument config" if stage == "fit" else "evaluate_model takes none"
    log.warning("the server's config for %s has no effect here (%s): %s", stage, which, why)


def _difference(after: Parameters, before: Parameters) -> list[Array]:
    """The update in float32 or wider; scalar tensors stay arrays, so `clip` can scale them."""
    pairs = zip(after, before, strict=True)
    return [np.asarray(np.subtract(x, y, dtype=_wide(x, y))) for x, y in pairs]


def _wide(*arrays: Array) -> np.dtype[Any]:
    return np.result_type(*arrays, np.float32)


def _norm(arrays: Parameters) -> float:
    """The L2 norm, calculated as Flower does it."""
    return float(np.sqrt(sum(np.linalg.norm(array.ravel()) ** 2 for array in arrays)))


def _unclipped(why: str) -> RepositoryError:
    return RepositoryError(
        f"the server's strategy wants clipped updates ({CLIPPING_NORM}), for differential "
        f"privacy, and this learner's update cannot be clipped: {why}",
        stage="fit",
    )
