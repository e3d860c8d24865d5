"""Flower's Strategy classes, fed in a stream where they allow it.

A strategy chooses who fits and evaluates, and what becomes of the updates. Three kinds:

- *mean*: the result is the weighted mean (FedAvg, FedProx). No tensor is converted for it.
- *optimiser*: the mean is one step's direction (FedAvgM, FedAdam, FedYogi, FedAdagrad; Reddi
  et al. 2021, arXiv:2003.00295). The class is handed one combined result, so memory stays
  that of the mean. Integers, and moving means and variances, keep the plain mean: an
  optimiser would make variances negative.
- *kept*: every update is needed at once (median, trimmed mean, Krum, Bulyan, and classes of
  the user's own). Integers keep the plain mean.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import flwr.server.strategy as flower
import numpy as np
from flwr.common import Code, FitRes, Status, ndarrays_to_parameters, parameters_to_ndarrays
from flwr.common import Parameters as FlowerParameters
from flwr.server.client_proxy import ClientProxy

from flops_fl.core.mean import WeightedMean, check_update
from flops_fl.errors import FederationError, UsageError
from flops_fl.flower.selection import Named, SeededCohort
from flops_fl.flower.values import plain
from flops_fl.options.config import COHORT_OPTIONS
from flops_fl.types import Array, Layout, Parameters, Scalar, Stage, Update, kind_of

MEANS = ("FedAvg", "FedProx")
OPTIMISERS = ("FedAvgM", "FedOpt", "FedAdam", "FedYogi", "FedAdagrad")
KEPT = ("FedMedian", "FedTrimmedAvg", "Krum", "Bulyan", "FaultTolerantFedAvg")
UNFIT = {
    "QFedAvg": "it judges models on data of the server's own, which an aggregator does not have",
    "FedAvgAndroid": "its clients send another format; Android learners can use FedAvg",
}
DEFAULTS: dict[str, dict[str, Any]] = {
    # Flower's Bulyan calls its Krum without the number to keep, which has no default.
    "Bulyan": {"to_keep": 0},
}
NEEDS_CONFIG = {"FedProx": "proximal_mu"}
"""Strategies that learners must help with, and the entry of `config` that tells them."""

_NOT_SENT = FlowerParameters(tensors=[], tensor_type="flops")
"""Stands for the global model in Flower's calls: the wire sends it once, not they."""


class Strategy:
    """One of Flower's strategies, as rounds use it.

    Args:
        name: A class of `flwr.server.strategy`, or ``module:Class``.
        options: Of its constructor.
        seed: Of all choices.
        initial: The initial global model.
        statistics: Indices of moving means and the like, which no optimiser may touch.

    Raises:
        UsageError: no such strategy, one that does not fit, or an option it does not take.
    """

    def __init__(
        self,
        name: str,
        options: Mapping[str, Any],
        *,
        seed: int,
        initial: Parameters,
        statistics: Collection[int] = (),
    ) -> None:
        self.name = name
        self.seed = seed
        self.optimises = name in OPTIMISERS
        self.keeps = not (self.optimises or name in MEANS)
        layout = Layout.of(initial)
        apart = set(statistics) if self.optimises else set()
        self.floats = [
            index
            for index, array in enumerate(initial)
            if kind_of(array.dtype) in "fc" and index not in apart
        ]
        self.layout = layout
        self.flower = _build(name, options, [initial[index] for index in self.floats])

    def choose(
        self, round: int, stage: Stage, learners: Sequence[str]
    ) -> dict[str, dict[str, Scalar]]:
        """Config by learner id, in id order; empty if the strategy finds too few present."""
        cohort = SeededCohort(learners, self.seed, round, stage)
        configure = self.flower.configure_fit if stage == "fit" else self.flower.configure_evaluate
        chosen = configure(round, _NOT_SENT, cohort)
        return {proxy.cid: dict(ins.config) for proxy, ins in sorted(chosen, key=_cid)}

    def aggregation(
        self, round: int, bound: Callable[[Update], Update] | None = None
    ) -> Aggregation:
        """Begin a round's aggregation; `bound` limits an update, or raises BadUpdate."""
        return Aggregation(self, round, bound)

    def state(self) -> dict[str, Any]:
        """What the class remembers between rounds: lists of arrays, and plain values."""
        out: dict[str, Any] = {}
        for name, value in vars(self.flower).items():
            if isinstance(value, FlowerParameters):
                out[name] = parameters_to_ndarrays(value)
            elif (
                isinstance(value, list) and value and isinstance(value[0], np.ndarray | np.generic)
            ):
                out[name] = [np.asarray(item) for item in value]
            elif value is None or isinstance(value, bool | int | float | str):
                out[name] = value
        return out

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state` gave."""
        for name, value in state.items():
            if isinstance(getattr(self.flower, name, None), FlowerParameters):
                value = ndarrays_to_parameters(value)  # noqa: PLW2901
            setattr(self.flower, name, value)


class Aggregation:
    """The updates of one round on their way to the next global model."""

    def __init__(
        self, strategy: Strategy, round: int, bound: Callable[[Update], Update] | None
    ) -> None:
        self._strategy = strategy
        self._bound = bound
        self._round = round
        self._mean = WeightedMean(strategy.layout)
        self._kept: list[tuple[ClientProxy, FitRes]] = []

    def add(self, update: Update) -> None:
        """Take one update, in learner-id order.

        Raises:
            BadUpdate: it must not touch the global model; nothing has changed.
        """
        check_update(update, self._strategy.layout)
        if self._bound:
            update = self._bound(update)
        self._mean.add(update)
        if self._strategy.keeps:
            floats = [update.parameters[index] for index in self._strategy.floats]
            self._kept.append((Named(update.learner), _fit_result(floats, update.examples)))

    def result(self, failures: int) -> list[Array]:
        """The next global model; `failures` is the number of learners that gave no update.

        Raises:
            FederationError: the strategy refuses these updates.
        """
        strategy = self._strategy
        arrays = self._mean.result()
        if not (strategy.optimises or strategy.keeps):
            return arrays
        results = self._kept
        if not strategy.keeps:
            floats = [arrays[index] for index in strategy.floats]
            results = [(Named("mean"), _fit_result(floats, self._mean.examples))]
        missing = [RuntimeError("no update")] * (failures if strategy.keeps else 0)
        try:
            parameters, _ = strategy.flower.aggregate_fit(self._round, results, missing)
        except Exception as error:
            raise FederationError(
                f"strategy {strategy.name} failed in round {self._round} with {len(results)} "
                f"updates ({type(error).__name__}: {error}): check --strategy-option"
            ) from error
        if parameters is None:
            raise FederationError(
                f"strategy {strategy.name} took none of round {self._round}'s {len(results)} "
                f"updates, with {failures} learners missing"
            )
        new = parameters_to_ndarrays(parameters)
        for index, array in zip(strategy.floats, new, strict=True):
            spec = strategy.layout.tensors[index]
            arrays[index] = array.astype(spec.dtype).reshape(spec.shape)
        return arrays


def _build(name: str, options: Mapping[str, Any], floats: Sequence[Array]) -> Any:
    cls = _class_of(name)
    accepted = inspect.signature(cls).parameters
    anything = any(p.kind is inspect.Parameter.VAR_KEYWORD for p in accepted.values())
    given = DEFAULTS.get(name, {}) | dict(options)
    for stage in ("fit", "evaluate"):
        if f"{stage}_metrics_aggregation_fn" in accepted:  # without one, Flower warns
            given.setdefault(f"{stage}_metrics_aggregation_fn", lambda _: {})
    # A copy of the model: not for those that never look at it.
    if "initial_parameters" in accepted and name not in (*MEANS, *KEPT):
        given["initial_parameters"] = ndarrays_to_parameters([plain(array) for array in floats])
    unknown = [key for key in given if key not in accepted and not anything]
    # The cohort's sizes are every strategy's of Flower, not necessarily the user's own.
    for key in [key for key in unknown if key in COHORT_OPTIONS]:
        del given[key]
        unknown.remove(key)
    try:
        return cls(**given)
    except (TypeError, ValueError) as error:
        why = f"it takes no {', '.join(unknown)}" if unknown else error
        own = [key for key in accepted if key not in (*COHORT_OPTIONS, "initial_parameters")
               and not key.endswith("_fn")]  # fmt: skip
        raise UsageError(
            f"strategy {name} cannot be built: {why}. Its options (--strategy-option): "
            f"{', '.join(own) or 'none'}"
        ) from None


def _class_of(name: str) -> Any:
    if name in (*MEANS, *OPTIMISERS, *KEPT):
        return getattr(flower, name)
    module, colon, attribute = name.partition(":")
    if colon:
        try:
            return getattr(importlib.import_module(module), attribute)
        except (ImportError, AttributeError) as error:
            raise UsageError(f"--strategy {name}: {error}. Expected MODULE:CLASS") from None
    if name in UNFIT:
        raise UsageError(f"--strategy {name} does not fit: {UNFIT[name]}")
    raise UsageError(
        f"no strategy {name!r}: choose from {', '.join(sorted((*MEANS, *OPTIMISERS, *KEPT)))}, or "
        "give MODULE:CLASS"
    )


def _fit_result(floats: Sequence[Array], examples: int) -> FitRes:
    return FitRes(
        status=Status(code=Code.OK, message=""),
        parameters=ndarrays_to_parameters([plain(array) for array in floats]),
        num_examples=examples,
        metrics={},
    )


def _cid(pair: tuple[ClientProxy, Any]) -> str:
    return str(pair[0].cid)
