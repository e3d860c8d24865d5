"""Which parameters are statistics of the data and not weights: moving means, variances, counters.

An optimiser on the aggregator must not treat them as weights: it could make variances negative.
The ModelManager may list their indices in an attribute ``averaged_parameters``. Otherwise they
are found with the methods of PyTorch and keras models.
"""

from __future__ import annotations

from typing import Any

from flops_fl.errors import RepositoryError

ATTRIBUTE = "averaged_parameters"


def statistics_of(manager: Any, model: Any, count: int) -> frozenset[int]:
    """Indices of the statistics among a model's `count` parameters; empty if unknown.

    Raises:
        RepositoryError: the attribute names parameters that do not exist.
    """
    named = getattr(manager, ATTRIBUTE, None)
    if named is not None:
        return _checked(named, count)
    if callable(getattr(model, "named_buffers", None)):
        names = list(model.state_dict())
        buffers = {name for name, _ in model.named_buffers()}
        learnt = [name not in buffers for name in names]
    elif hasattr(model, "trainable_weights") and hasattr(model, "weights"):
        trainable = {id(weight) for weight in model.trainable_weights}
        learnt = [id(weight) in trainable for weight in model.weights]
    else:
        return frozenset()
    if len(learnt) != count:  # the manager returns other parameters than the model's own list
        return frozenset()
    return frozenset(index for index, is_learnt in enumerate(learnt) if not is_learnt)


def _checked(named: Any, count: int) -> frozenset[int]:
    indices = frozenset(named)
    if not all(isinstance(index, int) and 0 <= index < count for index in indices):
        raise RepositoryError(
            f"ModelManager.{ATTRIBUTE} is {named!r}, expected indices from 0 to {count - 1}",
            stage=ATTRIBUTE,
        )
    return indices
