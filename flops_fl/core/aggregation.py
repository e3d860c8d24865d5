"""The protocols of a strategy: it chooses learners and makes the next global model of updates.

Rounds use these protocols only. `core.fedavg` implements them with a mean; the package `flower`
does so with Flower's strategies.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from flops_fl.errors import FederationError
from flops_fl.text import counted
from flops_fl.types import Array, Evaluation, Parameters, Scalar, Stage, Update


@dataclass(frozen=True, slots=True)
class Judgement:
    """A strategy's loss and metrics of a global model; `missing` says why there is no loss."""

    loss: float | None = None
    metrics: Mapping[str, Scalar] = field(default_factory=dict)
    missing: str = ""


class Aggregation(Protocol):
    """Makes the next global model of one round's updates."""

    metrics: Mapping[str, Scalar]
    """The aggregated metrics of the updates; valid after `result`."""

    def add(self, update: Update) -> None:
        """Take one update.

        Raises:
            BadUpdate: the update cannot be used; the aggregation has not changed.
        """

    def result(self, failures: int) -> list[Array] | None:
        """The next global model; None if it stays as it is.

        Args:
            failures: Number of learners that gave no update.

        Raises:
            FederationError: these updates make no model.
        """


class Strategy(Protocol):
    """Chooses the learners that fit and evaluate, and aggregates their updates."""

    @property
    def name(self) -> str:
        """The strategy's name, for messages and results."""

    @property
    def options(self) -> Mapping[str, Scalar]:
        """All its options except those of the cohort, defaults included."""

    @property
    def foreign(self) -> bool:
        """Whether it is a user's code, which may take long and so runs on a thread."""

    def initial(self, parameters: Parameters) -> Parameters:
        """The initial global model: `parameters`, which are the repository's, or another one.

        Raises:
            UsageError: the other model has another layout, or cannot be made.
        """

    def start(self, parameters: Parameters) -> None:
        """Let the next round start from this model instead of the last round's.

        A cluster calls this once in each cycle. The strategy keeps its other state.
        """

    def choose(
        self, round: int, stage: Stage, learners: Sequence[str], parameters: Parameters
    ) -> dict[str, dict[str, Scalar]]:
        """Choose learners for a task on the global model; their configs by learner id, in id order.

        The result is empty if too few learners are present.

        Raises:
            FederationError: the strategy demands something that rounds cannot do.
        """

    def aggregation(
        self, round: int, bound: Callable[[Update], Update] | None = None
    ) -> Aggregation:
        """Begin a round's aggregation; `bound` limits an update's norm, or raises BadUpdate."""

    def evaluate(self, round: int, parameters: Parameters) -> Judgement | None:
        """Evaluate a global model on the strategy's own data; None if it has none.

        Round 0 is the initial model.

        Raises:
            FederationError: its code raised.
        """

    def judge(
        self, round: int, evaluations: Sequence[Evaluation], failures: int
    ) -> Judgement | None:
        """Aggregate the learners' evaluations; None for means weighted by samples.

        Raises:
            FederationError: its code raised.
        """

    def state(self) -> dict[str, Any]:
        """What the strategy remembers between rounds: lists of arrays, and plain values."""

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state` gave."""


def not_accepted(name: str, failures: int) -> str:
    """Why a strategy that accepts no failures makes no model of a round."""
    return f"strategy {name} accepts no failures, and {counted(failures, 'learner')} gave no answer"


def require_accepted(name: str, failures: int, accepts: bool) -> None:
    """Check that a strategy accepts this number of failures.

    Raises:
        FederationError: there are failures, and it accepts none.
    """
    if failures and not accepts:
        raise FederationError(not_accepted(name, failures))
