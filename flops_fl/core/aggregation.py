"""What becomes of updates: who is asked, and how their answers make the next global model.

Rounds see these protocols only. `core.fedavg` implements them with a mean; Flower's strategies
do so in the room `flower`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from flops_fl.types import Array, Scalar, Stage, Update


class Aggregation(Protocol):
    """The updates of one round on their way to the next global model."""

    def add(self, update: Update) -> None:
        """Take one update.

        Raises:
            BadUpdate: it must not touch the global model; nothing has changed.
        """

    def result(self, failures: int) -> list[Array]:
        """The next global model; `failures` is the number of learners that gave no update.

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

    def choose(
        self, round: int, stage: Stage, learners: Sequence[str]
    ) -> dict[str, dict[str, Scalar]]:
        """Config by learner id, in id order; empty if too few learners are present."""

    def aggregation(
        self, round: int, bound: Callable[[Update], Update] | None = None
    ) -> Aggregation:
        """Begin a round's aggregation; `bound` limits an update, or raises BadUpdate."""

    def state(self) -> dict[str, Any]:
        """What it remembers between rounds: lists of arrays, and plain values."""

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state` gave."""
