"""The kinds of Flower's strategies for arrays; they differ in what a strategy gets of a round.

It gets no updates but their mean, a single result, or all updates. Integers always get the
weighted mean, whatever the strategy makes.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from flwr.common import FitRes, parameters_to_ndarrays
from flwr.server.client_proxy import ClientProxy

from flops_fl.core.aggregation import Aggregation
from flops_fl.core.mean import MeanAggregation
from flops_fl.dtypes import dtype_of, kind_of
from flops_fl.flower.strategy import Bound, FlowerStrategy, as_parameters, fit_result
from flops_fl.types import Array, Layout, Parameters, Scalar, Update


class FlowerMean(FlowerStrategy):
    """The plain mean (FedProx): Flower's class only chooses learners and their configs."""

    def aggregation(self, round: int, bound: Bound = None) -> Aggregation:
        """See `FlowerStrategy.aggregation`."""
        return _Mean(self, bound)


class _Mean(MeanAggregation):
    def __init__(self, strategy: FlowerStrategy, bound: Bound) -> None:
        super().__init__(strategy.layout, bound)
        self._strategy = strategy

    def result(self, failures: int) -> list[Array]:
        self._strategy.require_accepted(failures)
        return super().result(failures)


class FlowerOptimiser(FlowerStrategy):
    """A step in the direction of the mean (FedAvgM, FedAdam, FedYogi, FedAdagrad).

    Flower's class gets one result, the mean, so a round needs no more memory than the mean does.
    Reddi et al. 2021, arXiv:2003.00295.

    Args:
        learnt: Indices of the tensors that it may change. An optimiser would turn integers into
            fractions, and could make moving variances negative.
    """

    def __init__(self, *arguments: Any, learnt: Collection[int], **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.learnt = sorted(learnt)

    def start(self, parameters: Parameters) -> None:
        """See `FlowerStrategy.start`."""
        _keep(self._flower, [parameters[index] for index in self.learnt])

    def aggregation(self, round: int, bound: Bound = None) -> Aggregation:
        """See `FlowerStrategy.aggregation`."""
        return _Step(self, round, bound)


class _Step(MeanAggregation):
    def __init__(self, strategy: FlowerOptimiser, round: int, bound: Bound) -> None:
        super().__init__(strategy.layout, bound)
        self._strategy = strategy
        self._round = round

    def result(self, failures: int) -> list[Array]:
        examples, arrays = self.mean.examples, super().result(failures)
        indices = self._strategy.learnt
        results = [_result("mean", [arrays[index] for index in indices], examples)]
        made, self.metrics = self._strategy.aggregate(self._round, results, failures)
        assert made is not None  # see took_none
        self._strategy.put(made, arrays, indices)
        return arrays


class FlowerChoice(FlowerStrategy):
    """Strategies that need all updates at once (median, trimmed mean, Krum, Bulyan)."""

    @property
    def indices(self) -> list[int]:
        """Indices of the tensors that the class gets: the floats."""
        return floats_of(self.layout)

    def start(self, parameters: Parameters) -> None:
        """See `FlowerStrategy.start`: a user's class may be derived from an optimiser."""
        _keep(self._flower, [parameters[index] for index in self.indices])

    def aggregation(self, round: int, bound: Bound = None) -> Aggregation:
        """See `FlowerStrategy.aggregation`."""
        return _Choice(self, round, bound)


class _Choice(MeanAggregation):
    """Keeps the tensors for Flower's class; tensors that are not floats get the mean."""

    def __init__(self, strategy: FlowerChoice, round: int, bound: Bound) -> None:
        super().__init__(strategy.layout, bound)
        self._strategy = strategy
        self._round = round
        self._given = strategy.indices
        self._floats = floats_of(strategy.layout)
        self._folds = len(self._floats) < len(strategy.layout.tensors)
        self._kept: list[tuple[ClientProxy, FitRes]] = []

    def add(self, update: Update) -> None:
        update = self.checked(update)
        if self._folds:
            self.mean.add(update)
        given = [update.parameters[index] for index in self._given]
        self._kept.append(_result(update.learner, given, update.examples, update.metrics))

    def result(self, failures: int) -> list[Array] | None:  # type: ignore[override]
        made, self.metrics = self._strategy.aggregate(self._round, self._kept, failures)
        if made is None:
            return None
        arrays = super().result(failures) if self._folds else self._strategy.layout.empty()
        self._strategy.put(made, arrays, self._given, self._floats)
        return arrays


def _keep(flower: Any, arrays: Parameters) -> None:
    """Let Flower's class step from another model; its classes keep theirs in one of two places."""
    if getattr(flower, "current_weights", None) is not None:
        flower.current_weights = parameters_to_ndarrays(as_parameters(arrays))
    if getattr(flower, "initial_parameters", None) is not None:
        flower.initial_parameters = as_parameters(arrays)


def floats_of(layout: Layout) -> list[int]:
    """Indices of the tensors that a strategy may calculate with."""
    return [i for i, spec in enumerate(layout.tensors) if kind_of(dtype_of(spec.dtype)) in "fc"]


def _result(
    learner: str, arrays: Parameters, examples: int, metrics: Mapping[str, Scalar] | None = None
) -> tuple[ClientProxy, FitRes]:
    return fit_result(learner, as_parameters(arrays), examples, metrics or {})
