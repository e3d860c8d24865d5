"""What becomes of updates: who is asked, and how their answers make the next global model.

Rounds see these protocols only. `core.fedavg` implements them with a mean; Flower's strategies
do so in the room `flower`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from flops_fl.errors import FederationError
from flops_fl.types import Array, Evaluation, Parameters, Scalar, Stage, Update


@dataclass(frozen=True, slots=True)
class Judgement:
    """What a strategy says of a global model; why it has no loss, if so."""

    loss: float | None = None
    metrics: Mapping[str, Scalar] = field(default_factory=dict)
    missing: str = ""


class Aggregation(Protocol):
    """The updates of one round on their way to the next global model."""

    metrics: Mapping[str, Scalar]
    """With the result: what became of the updates' metrics."""

    def add(self, update: Update) -> None:
        """Take one update.

        Raises:
            BadUpdate: it must not touch the global model; nothing has changed.
        """

    def result(self, failures: int) -> list[Array] | None:
        """The next global model; None if it stays as it is.

        Args:
            failures: Number of learners that gave no update.

        Raises:
            FederationError: nothing can be made of these updates.
        """


class Strategy(Protocol):
    """Chooses who fits and evaluates, and how updates are aggregated."""

    @property
    def name(self) -> str:
        """For people, and for who compares two runs."""

    @property
    def options(self) -> Mapping[str, Scalar]:
        """All that it was told beside who is chosen, defaults included."""

    @property
    def foreign(self) -> bool:
        """Whether it is a user's own code, which may take any time."""

    def initial(self, parameters: Parameters) -> Parameters:
        """The model to start from: the repository's, which is given, or another.

        Raises:
            UsageError: the other is of another layout, or cannot be made.
        """

    def start(self, parameters: Parameters) -> None:
        """The next round starts from this model, whatever the last one has made.

        So in a cluster, once a cycle: what the strategy has learnt beside the model stays.
        """

    def choose(
        self, round: int, stage: Stage, learners: Sequence[str], parameters: Parameters
    ) -> dict[str, dict[str, Scalar]]:
        """Config by learner id, in id order, for the global model that they are to be sent.

        Empty if too few learners are present.

        Raises:
            FederationError: it wants what cannot be done.
        """

    def aggregation(
        self, round: int, bound: Callable[[Update], Update] | None = None
    ) -> Aggregation:
        """Begin a round's aggregation; `bound` limits an update, or raises BadUpdate."""

    def evaluate(self, round: int, parameters: Parameters) -> Judgement | None:
        """What it finds of a global model on data of its own; None if it does not look.

        Round 0 is the initial model.

        Raises:
            FederationError: it fails.
        """

    def judge(
        self, round: int, evaluations: Sequence[Evaluation], failures: int
    ) -> Judgement | None:
        """What it makes of the learners' evaluations; None for means weighted by samples.

        Raises:
            FederationError: it fails.
        """

    def state(self) -> dict[str, Any]:
        """What it remembers between rounds: lists of arrays, and plain values."""

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state` gave."""


def not_accepted(name: str, failures: int) -> str:
    """Why a strategy that accepts no failures makes nothing of what came."""
    return f"strategy {name} accepts no failures, and {failures} learners gave no answer"


def require_accepted(name: str, failures: int, accepts: bool) -> None:
    """Let failures pass where they are accepted.

    Raises:
        FederationError: they are not, and there are some.
    """
    if failures and not accepts:
        raise FederationError(not_accepted(name, failures))
