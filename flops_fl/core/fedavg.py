"""Federated averaging (McMahan et al. 2017, arXiv:1602.05629), without Flower."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from flops_fl.core.aggregation import Judgement, not_accepted, require_accepted
from flops_fl.core.mean import MeanAggregation
from flops_fl.core.seeding import selection
from flops_fl.types import Array, Evaluation, Layout, Parameters, Scalar, Stage, Update


class FedAvg:
    """The mean of the learners' updates, weighted by samples; it has no state.

    Args:
        layout: The layout of the global model.
        seed: The seed of the choice of learners.
        fraction_fit: Share of the present learners that fit.
        fraction_evaluate: Share of the present learners that evaluate; 0 for none.
        min_fit_clients: Smallest number of learners that fit, whatever the share.
        min_evaluate_clients: Smallest number of learners that evaluate, whatever the share.
        min_available_clients: If fewer learners are present, nobody is asked.
        accept_failures: Whether a round goes on without learners that failed.
    """

    name = "FedAvg"
    foreign = False

    def __init__(
        self,
        layout: Layout,
        *,
        seed: int,
        fraction_fit: float = 1.0,
        fraction_evaluate: float = 1.0,
        min_fit_clients: int = 1,
        min_evaluate_clients: int = 1,
        min_available_clients: int = 1,
        accept_failures: bool = True,
    ) -> None:
        self.options: Mapping[str, Scalar] = {"accept_failures": accept_failures}
        self._accepts = accept_failures
        self._layout = layout
        self._seed = seed
        self._available = min_available_clients
        self._share = {"fit": fraction_fit, "evaluate": fraction_evaluate}
        self._fewest = {"fit": min_fit_clients, "evaluate": min_evaluate_clients}

    def initial(self, parameters: Parameters) -> Parameters:
        """The repository's model."""
        return parameters

    def start(self, parameters: Parameters) -> None:
        """Nothing to do, since it keeps no model."""

    def choose(
        self, round: int, stage: Stage, learners: Sequence[str], parameters: Parameters
    ) -> dict[str, dict[str, Scalar]]:
        """Config by learner id, in id order; empty if too few learners are present."""
        share, present = self._share[stage], sorted(learners)
        count = max(int(len(present) * share), self._fewest[stage])
        if (stage == "evaluate" and share == 0) or len(present) < max(count, self._available):
            return {}
        if count < len(present):  # else all are chosen, whatever is drawn
            present = sorted(selection(self._seed, round, stage).sample(present, count))
        config: dict[str, Scalar] = {}
        return dict.fromkeys(present, config)

    def aggregation(
        self, round: int, bound: Callable[[Update], Update] | None = None
    ) -> MeanAggregation:
        """Begin a round's mean; `bound` limits an update's norm, or raises BadUpdate."""
        return _Mean(self._layout, bound, self._accepts)

    def evaluate(self, round: int, parameters: Parameters) -> None:
        """None: it has no data of its own."""

    def judge(
        self, round: int, evaluations: Sequence[Evaluation], failures: int
    ) -> Judgement | None:
        """None, unless a learner failed and `accept_failures` is false."""
        if failures and not self._accepts:
            return Judgement(missing=not_accepted(self.name, failures))
        return None

    def state(self) -> dict[str, Any]:
        """Empty, since it has no state."""
        return {}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Nothing to do."""


class _Mean(MeanAggregation):
    def __init__(
        self, layout: Layout, bound: Callable[[Update], Update] | None, accepts: bool
    ) -> None:
        super().__init__(layout, bound)
        self._accepts = accepts

    def result(self, failures: int) -> list[Array]:
        require_accepted(FedAvg.name, failures, self._accepts)
        return super().result(failures)
