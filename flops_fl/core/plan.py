"""What a federated training needs and leaves: learners, a plan, a state."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from flops_fl.core.norm import NormLimit
from flops_fl.types import Answer, Best, Deadline, Parameters, RoundRecord, Task


class Asked(Protocol):
    """Learners at work, until `close`."""

    async def next(self) -> Answer | None:
        """The next answer; None when all have been given.

        Drop an update before the next call: a later one may be put into its arrays.
        """

    def close(self) -> None:
        """Wait for nobody any more."""


class Generated:
    """`Asked` made of an asynchronous generator of answers."""

    def __init__(self, answers: AsyncGenerator[Answer, None]) -> None:
        self._answers = answers

    async def next(self) -> Answer | None:
        return await anext(self._answers, None)

    def close(self) -> None:
        pass  # it waits only while it is asked


class Cohort(Protocol):
    """The learners, as rounds see them."""

    def present(self) -> Sequence[str]:
        """Ids of the learners that can be asked."""

    async def gather(self, minimum: int, timeout: float) -> None:
        """Wait until `minimum` are present.

        Raises:
            FederationError: they are not after `timeout` seconds.
        """

    def ask(
        self,
        tasks: Mapping[str, Task],
        parameters: Parameters,
        deadline: Deadline,
        on_answer: Callable[[str, str | None], None],
    ) -> Asked:
        """Send each learner its task; one answer for each, in learner-id order.

        A learner that does not answer before the deadline, or is lost, answers with a
        LearnerFailure. `on_answer` (learner, reason of failure) is called as answers arrive,
        which may be in any order.
        """

    def dismiss(self, learner: str, reason: str) -> None:
        """Tell a learner that it is put aside, and why; it is not present from now on."""

    def traffic(self) -> tuple[int, int]:
        """Bytes sent to and received from learners so far."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """What a training is to be. Times in seconds."""

    run_id: str
    rounds: int
    seed: int
    min_available: int
    min_fit: int
    min_evaluate: int
    round_timeout: float
    join_timeout: float
    grace: float | None = None
    """Close a stage so long after its minimum has answered; None: wait for all."""
    max_failures: int | None = None
    """Rounds in a row after which a learner that fails is put aside."""
    limit: NormLimit | None = None
    keep: Callable[[Parameters], Parameters] = lambda parameters: parameters
    """Puts a new global model where it is to lie until the next one is there."""


@dataclass(frozen=True, kw_only=True, slots=True)
class State:
    """All that a round leaves behind for the next."""

    parameters: Parameters
    round: int = 0
    history: tuple[RoundRecord, ...] = ()
    best: Best | None = None
    initial: RoundRecord | None = None
    """What the strategy found of the initial model, if it looks itself: its `server_loss`."""
    pending: RoundRecord | None = None
    """The newest round, while its model is there and its evaluation is not."""


class Journal(Protocol):
    """Where a training writes its state down, so that it outlives the process.

    What it cannot write costs what a crash would then lose, not the training: it does not raise
    for a disk that is full. For large models `write` is called on a thread.
    """

    def begin(self, state: State) -> None:
        """A training starts, or goes on, from here."""

    def write(self, state: State) -> None:
        """A fit is folded (its round is pending), or evaluated. Read, do not write to it."""
