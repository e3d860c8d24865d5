"""A federated training, round by round: select, fit, aggregate, evaluate.

A round is state -> state. It talks to learners through one small protocol, `Cohort`, so
that native sessions, nodes of Flower's Grid and the fakes of a test are the same to it.
Updates are folded in learner-id order as the cohort hands them out, and dropped.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol, TypeVar

from flops_fl.core.observer import Observer
from flops_fl.core.strategy import Strategy
from flops_fl.errors import BadUpdate, FederationError
from flops_fl.types import (
    Answer,
    Best,
    Evaluation,
    Layout,
    LearnerFailure,
    Parameters,
    RoundRecord,
    Scalar,
    Stage,
    Task,
    Update,
)

T = TypeVar("T")

OFF_LOOP_BYTES = 1 << 20  # below this, arithmetic costs less than a change of thread


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
        timeout: float,
        on_answer: Callable[[str, str | None], None],
    ) -> AsyncIterator[Answer]:
        """Send each learner its task; one answer for each, in learner-id order.

        A learner that does not answer within `timeout` seconds, or is lost, answers with a
        LearnerFailure. `on_answer` (learner, reason of failure) is called as answers arrive,
        which may be in any order. The consumer drops an update before it asks for the next,
        whose values may take its arrays.
        """

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


@dataclass(frozen=True, kw_only=True, slots=True)
class State:
    """All that a round leaves behind for the next."""

    parameters: Parameters
    round: int = 0
    history: tuple[RoundRecord, ...] = ()
    best: Best | None = None


@dataclass(slots=True)
class _StageOutcome:
    """What came back from the learners asked in one stage."""

    answered: list[str] = field(default_factory=list)
    failures: list[LearnerFailure] = field(default_factory=list)
    seconds: float = 0.0


async def train(
    state: State,
    plan: Plan,
    cohort: Cohort,
    strategy: Strategy,
    observer: Observer,
) -> State:
    """Play all rounds that are left; the final state.

    Raises:
        FederationError: too few learners came, or too few of those asked delivered.
    """
    while state.round < plan.rounds:
        state = await play_round(state, plan, cohort, strategy, observer)
        assert state.best is not None
        observer.on_round(state.history[-1], state.parameters, state.best)
    return state


async def play_round(
    state: State, plan: Plan, cohort: Cohort, strategy: Strategy, observer: Observer
) -> State:
    """One round: fit and fold, then evaluate the new global model."""
    await cohort.gather(plan.min_available, plan.join_timeout)
    number, started, before = state.round + 1, time.monotonic(), cohort.traffic()
    stage = _Stages(plan, cohort, strategy, observer, number)
    parameters, fit = await stage.fit(state.parameters, state.round)
    (loss, accuracy, examples), judged = await stage.evaluate(parameters, number)
    down, up = (now - then for now, then in zip(cohort.traffic(), before, strict=True))
    record = RoundRecord(
        round=number,
        seconds=time.monotonic() - started,
        fit_seconds=fit.seconds,
        evaluate_seconds=judged.seconds,
        loss=loss,
        accuracy=accuracy,
        examples=examples,
        bytes_down=down,
        bytes_up=up,
        learners=tuple(fit.answered),
        failures=tuple(fit.failures + judged.failures),
    )
    best = state.best
    if best is None or best.beaten_by(record):
        best = Best(round=number, loss=loss, accuracy=accuracy)
    return State(parameters=parameters, round=number, history=(*state.history, record), best=best)


@dataclass(slots=True)
class _Stages:
    plan: Plan
    cohort: Cohort
    strategy: Strategy
    observer: Observer
    round: int

    async def fit(self, parameters: Parameters, version: int) -> tuple[Parameters, _StageOutcome]:
        """The next global model, from the chosen learners' updates."""
        layout = Layout.of(parameters)
        aggregation = self.strategy.aggregation(self.round)
        outcome = _StageOutcome()
        started = time.monotonic()
        async for answer in self._ask("fit", parameters, version, outcome):
            assert isinstance(answer, Update)
            try:
                await _maybe_off_loop(layout.nbytes, partial(aggregation.add, answer))
            except BadUpdate as error:
                refused = LearnerFailure(
                    learner=answer.learner,
                    stage="update",
                    reason=f"update of round {self.round} refused: {error}",
                )
                self._note(outcome, "fit", refused)
            else:
                outcome.answered.append(answer.learner)
            del answer  # a model's worth of memory, not to be held while waiting for the next
        self._require_quorum(outcome)
        failures = len(outcome.failures)
        result = await _maybe_off_loop(layout.nbytes, partial(aggregation.result, failures))
        outcome.seconds = time.monotonic() - started
        return result, outcome

    async def evaluate(
        self, parameters: Parameters, version: int
    ) -> tuple[tuple[float | None, float | None, int], _StageOutcome]:
        """Loss, accuracy, examples of the global model: means weighted by examples.

        Fewer answers than `min_evaluate` cost the figures of this round, not the round:
        the new global model is there and sound.
        """
        outcome = _StageOutcome()
        evaluations: list[Evaluation] = []
        started = time.monotonic()
        async for answer in self._ask("evaluate", parameters, version, outcome):
            assert isinstance(answer, Evaluation)
            refused = _refusal(answer)
            if refused:
                failure = LearnerFailure(learner=answer.learner, stage="evaluate", reason=refused)
                self._note(outcome, "evaluate", failure)
            else:
                evaluations.append(answer)
        outcome.seconds = time.monotonic() - started
        enough = evaluations and len(evaluations) >= self.plan.min_evaluate
        return (_figures(evaluations) if enough else (None, None, 0)), outcome

    async def _ask(
        self, stage: Stage, parameters: Parameters, version: int, outcome: _StageOutcome
    ) -> AsyncIterator[Update | Evaluation]:
        chosen = self.strategy.choose(self.round, stage, self.cohort.present())
        tasks = {learner: self._task(stage, version, chosen[learner]) for learner in chosen}
        if not tasks:
            return
        self.observer.on_stage(self.round, stage, list(tasks))

        def on_answer(learner: str, failure: str | None) -> None:
            self.observer.on_answer(self.round, stage, learner, failure)

        answers = self.cohort.ask(tasks, parameters, self.plan.round_timeout, on_answer)
        async for answer in answers:
            if isinstance(answer, LearnerFailure):
                outcome.failures.append(answer)
            else:
                yield answer
            del answer

    def _task(self, stage: Stage, version: int, config: Mapping[str, Scalar]) -> Task:
        return Task(
            stage=stage,
            run_id=self.plan.run_id,
            round=self.round,
            version=version,
            seed=self.plan.seed,
            config=config,
        )

    def _note(self, outcome: _StageOutcome, stage: Stage, failure: LearnerFailure) -> None:
        outcome.failures.append(failure)
        self.observer.on_answer(self.round, stage, failure.learner, failure.reason)

    def _require_quorum(self, outcome: _StageOutcome) -> None:
        quorum = max(1, self.plan.min_fit)
        if len(outcome.answered) >= quorum:
            return
        why = "; ".join(f"{f.learner}: {f.reason}" for f in outcome.failures[:10])
        raise FederationError(
            f"round {self.round} needs {quorum} updates (--min-fit-clients) and got "
            f"{len(outcome.answered)}. Missing: {why or 'nobody could be asked'}"
        )


async def _maybe_off_loop(nbytes: int, work: Callable[[], T]) -> T:
    return work() if nbytes < OFF_LOOP_BYTES else await asyncio.to_thread(work)


def _refusal(evaluation: Evaluation) -> str:
    """Why an evaluation cannot enter the round's figures; empty when it can."""
    accuracy = evaluation.metrics.get("accuracy")
    numbers = [evaluation.loss, *([accuracy] if isinstance(accuracy, float | int) else [])]
    if evaluation.examples < 1 or not all(map(math.isfinite, numbers)):
        return (
            f"evaluation refused: loss {evaluation.loss}, accuracy {accuracy!r} over "
            f"{evaluation.examples} samples; expected finite numbers over at least one"
        )
    return ""


def _figures(evaluations: Sequence[Evaluation]) -> tuple[float, float | None, int]:
    total = sum(e.examples for e in evaluations)
    loss = sum(e.loss * e.examples for e in evaluations) / total
    known = [e for e in evaluations if isinstance(e.metrics.get("accuracy"), float | int)]
    seen = sum(e.examples for e in known)
    if not seen:
        return loss, None, total
    accuracy = sum(float(e.metrics["accuracy"]) * e.examples for e in known) / seen
    return loss, accuracy, total
