"""A federated training's learners, plan and state: what it needs and what it leaves."""

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

        Do not use an update after the next call, which may reuse its arrays for a later one.
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
    """The parameters of a training. Times in seconds."""

    run_id: str
    rounds: int
    seed: int
    min_available: int
    min_fit: int
    min_evaluate: int
    round_timeout: float
    join_timeout: float
    grace: float | None = None
    """Close a stage this long after its minimum has answered; None: wait for all."""
    share: float | None = None
    """Close a stage this long after its start if its minimum has answered: see `core.cycle`."""
    max_failures: int | None = None
    """Rounds in a row after which a learner that fails is put aside."""
    limit: NormLimit | None = None
    keep: Callable[[Parameters], Parameters] = lambda parameters: parameters
    """Stores a new global model, in memory or in a file, until the next one replaces it."""

    def deadline(self, quorum: int) -> Deadline:
        """When a stage that needs `quorum` answers stops waiting."""
        return Deadline(
            timeout=self.round_timeout, quorum=quorum, grace=self.grace, share=self.share
        )


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
    """Stores a training's state, so that it outlives the process.

    It does not raise if the disk is full: the training goes on, but a crash would lose that state.
    For large models `write` is called on a thread.
    """

    def begin(self, state: State) -> None:
        """A training starts, or goes on, from here."""

    def write(self, state: State) -> None:
        """Store a state after a fit (its round is pending) or its evaluation; do not change it."""
