"""Flower's Strategy classes behind core's protocol: a class here for each kind of theirs.

A strategy of Flower's chooses who fits and evaluates, and makes the next model of the updates.
Whatever it makes, integers keep the weighted mean.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, TypeAlias

import numpy as np
from flwr.common import Code, FitRes, Status, ndarrays_to_parameters, parameters_to_ndarrays
from flwr.common import Parameters as FlowerParameters
from flwr.server.client_proxy import ClientProxy

from flops_fl.core.aggregation import Aggregation
from flops_fl.core.mean import MeanAggregation
from flops_fl.dtypes import OPAQUE, dtype_of, kind_of
from flops_fl.errors import FederationError
from flops_fl.flower.selection import Named, SeededCohort
from flops_fl.flower.values import plain
from flops_fl.types import Array, Layout, Parameters, Scalar, Stage, Update

Bound: TypeAlias = Callable[[Update], Update] | None
Within: TypeAlias = Callable[[], AbstractContextManager[Any]]

_NOT_SENT = FlowerParameters(tensors=[], tensor_type="flops")
"""Stands for the global model in Flower's calls: the wire sends it once, not they."""


class FlowerStrategy:
    """One of Flower's strategies: who is chosen, and what is remembered.

    Args:
        name: For people.
        flower: The object of Flower's class.
        options: What it was built with, defaults included.
        seed: Of all choices.
        layout: Of the global model.
        within: A context in which its code runs.
    """

    def __init__(
        self,
        name: str,
        flower: Any,
        options: Mapping[str, Scalar],
        *,
        seed: int,
        layout: Layout,
        within: Within = nullcontext,
    ) -> None:
        self.name = name
        self.options = options
        self.layout = layout
        self._flower = flower
        self._seed = seed
        self._within = within

    def choose(
        self, round: int, stage: Stage, learners: Sequence[str]
    ) -> dict[str, dict[str, Scalar]]:
        """Config by learner id, in id order; empty if the strategy finds too few present."""
        flower, cohort = self._flower, SeededCohort(learners, self._seed, round, stage)
        configure = flower.configure_fit if stage == "fit" else flower.configure_evaluate
        with self._within():
            chosen = configure(round, _NOT_SENT, cohort)
        return {proxy.cid: dict(ins.config) for proxy, ins in sorted(chosen, key=_cid)}

    def aggregation(self, round: int, bound: Bound = None) -> Aggregation:
        """Begin a round's aggregation; `bound` limits an update, or raises BadUpdate."""
        raise NotImplementedError

    def aggregate(
        self, round: int, results: list[tuple[ClientProxy, FitRes]], failures: int
    ) -> FlowerParameters:
        """What Flower's class makes of a round's results.

        Raises:
            FederationError: nothing.
        """
        missing = [RuntimeError("no update")] * failures
        try:
            with self._within():
                parameters, _ = self._flower.aggregate_fit(round, results, missing)
        except Exception as error:
            raise FederationError(
                f"strategy {self.name} failed in round {round} with {len(results)} updates "
                f"({type(error).__name__}: {error}): check --strategy-option"
            ) from error
        if parameters is None:
            raise FederationError(
                f"strategy {self.name} took none of round {round}'s {len(results)} updates with "
                f"{failures} failures"
            )
        return parameters

    def require_accepted(self, failures: int) -> None:
        """Let failures pass, unless the class was told not to accept any.

        Raises:
            FederationError: there are some.
        """
        if failures and not getattr(self._flower, "accept_failures", True):
            raise FederationError(
                f"strategy {self.name} accepts no failures, and {failures} learners gave no update"
            )

    def put(self, made: FlowerParameters, arrays: list[Array], indices: Sequence[int]) -> None:
        """Let what Flower's class made take the place of the mean at `indices` of `arrays`.

        Raises:
            FederationError: it is of another shape.
        """
        found = parameters_to_ndarrays(made)
        expected = [self.layout.tensors[index] for index in indices]
        shapes = [array.shape for array in found], [spec.shape for spec in expected]
        if shapes[0] != shapes[1]:
            raise FederationError(
                f"strategy {self.name} made arrays of the shapes {shapes[0]}, expected {shapes[1]}"
            )
        for index, spec, array in zip(indices, expected, found, strict=True):
            arrays[index] = array.astype(dtype_of(spec.dtype), copy=False)

    def state(self) -> dict[str, Any]:
        """What the class remembers between rounds: bytes, lists of arrays, and plain values."""
        out: dict[str, Any] = {}
        for name, value in vars(self._flower).items():
            if isinstance(value, FlowerParameters):
                out[name] = [np.frombuffer(data, OPAQUE) for data in value.tensors]
            elif isinstance(value, bytes):
                out[name] = [np.frombuffer(value, OPAQUE)]
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
            now = getattr(self._flower, name, None)
            if isinstance(value, list) and value and value[0].dtype == OPAQUE:
                data = [array.tobytes() for array in value]
                value = data[0]  # noqa: PLW2901
                if isinstance(now, FlowerParameters):
                    value = FlowerParameters(tensors=data, tensor_type=now.tensor_type)  # noqa: PLW2901
            setattr(self._flower, name, value)


class FlowerMean(FlowerStrategy):
    """The mean as it is (FedProx): Flower's class has a say in who is told what."""

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
    """The mean is the direction of a step (FedAvgM, FedAdam, FedYogi, FedAdagrad).

    The class is handed one result, the mean, so that memory stays that of the mean. Reddi et
    al. 2021, arXiv:2003.00295.

    Args:
        learnt: Indices of the tensors that it may touch: an optimiser would make integers
            fractions, and moving variances negative.
    """

    def __init__(self, *arguments: Any, learnt: Collection[int], **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.learnt = sorted(learnt)

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
        made = self._strategy.aggregate(self._round, results, failures)
        self._strategy.put(made, arrays, indices)
        return arrays


class FlowerChoice(FlowerStrategy):
    """All updates at once (median, trimmed mean, Krum, Bulyan, classes of the user's own)."""

    def aggregation(self, round: int, bound: Bound = None) -> Aggregation:
        """See `FlowerStrategy.aggregation`."""
        return _Choice(self, round, bound)


class _Choice(MeanAggregation):
    """Floats are kept for Flower's class, all others folded into a mean."""

    def __init__(self, strategy: FlowerStrategy, round: int, bound: Bound) -> None:
        super().__init__(strategy.layout, bound)
        self._strategy = strategy
        self._round = round
        self._indices = floats_of(strategy.layout)
        self._kept: list[tuple[ClientProxy, FitRes]] = []

    def add(self, update: Update) -> None:
        update = self.checked(update)
        self.mean.add(update)
        floats = [update.parameters[index] for index in self._indices]
        self._kept.append(_result(update.learner, floats, update.examples))

    def result(self, failures: int) -> list[Array]:
        arrays = super().result(failures)
        made = self._strategy.aggregate(self._round, self._kept, failures)
        self._strategy.put(made, arrays, self._indices)
        return arrays


def floats_of(layout: Layout) -> list[int]:
    """Indices of the tensors that a strategy may calculate with."""
    return [i for i, spec in enumerate(layout.tensors) if kind_of(dtype_of(spec.dtype)) in "fc"]


def _result(learner: str, arrays: Parameters, examples: int) -> tuple[ClientProxy, FitRes]:
    parameters = ndarrays_to_parameters([plain(array) for array in arrays])
    return fit_result(learner, parameters, examples)


def fit_result(
    learner: str, parameters: FlowerParameters, examples: int
) -> tuple[ClientProxy, FitRes]:
    """A learner's update as Flower's classes get it."""
    status = Status(code=Code.OK, message="")
    result = FitRes(status=status, parameters=parameters, num_examples=examples, metrics={})
    return Named(learner), result


def _cid(pair: tuple[ClientProxy, Any]) -> str:
    return str(pair[0].cid)
