"""Fit and evaluation: ask the chosen learners, fold what they answer."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar

from flops_fl.core.aggregation import Strategy
from flops_fl.core.failures import in_short
from flops_fl.core.mean import MAX_EXAMPLES
from flops_fl.core.observer import Observer
from flops_fl.core.plan import Cohort, Plan
from flops_fl.errors import BadUpdate, FederationError
from flops_fl.types import (
    Answer,
    Deadline,
    Evaluation,
    Layout,
    LearnerFailure,
    Parameters,
    Scalar,
    Stage,
    Task,
    Update,
)

T = TypeVar("T")

OFF_LOOP_BYTES = 1 << 20
LARGEST_LOSS = 1e30  # far beyond any loss; a sum of such is still finite
LARGEST_ACCURACY = 100.0  # in percent; one learner's absurd value would name the best round


@dataclass(slots=True)
class StageOutcome:
    """What came back from the learners asked in one stage."""

    answered: list[str] = field(default_factory=list)
    failures: list[LearnerFailure] = field(default_factory=list)
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Figures:
    """Loss, accuracy and number of samples of an evaluation; why there is none, if so."""

    loss: float | None = None
    accuracy: float | None = None
    examples: int = 0
    missing: str = ""


@dataclass(slots=True)
class Stages:
    """The two stages of a round: ask, and make one of the answers."""

    plan: Plan
    cohort: Cohort
    strategy: Strategy
    observer: Observer
    round: int
    outcome: StageOutcome = field(default_factory=StageOutcome)
    """Of the stage that is played, or was played last, if it failed, too."""

    async def fit(self, parameters: Parameters, version: int) -> Parameters:
        """The next global model, from the chosen learners' updates.

        Raises:
            FederationError: there are too few, or nothing can be made of them.
        """
        limit = self.plan.limit
        bound = partial(limit.bound, base=parameters) if limit else None
        aggregation = self.strategy.aggregation(self.round, bound)
        outcome = self.outcome = StageOutcome()
        small = is_small(parameters)

        async def fold(answer: Answer) -> None:
            assert isinstance(answer, Update)
            try:
                if small:
                    aggregation.add(answer)
                else:
                    await asyncio.to_thread(aggregation.add, answer)
            except BadUpdate as error:
                refused = f"update of round {self.round} refused: {error}"
                self._refuse(outcome, answer.learner, "fit", "update", refused)
            else:
                outcome.answered.append(answer.learner)

        started = time.monotonic()
        await self._ask("fit", parameters, version, outcome, fold)
        self._require_quorum(outcome)
        failures = len(outcome.failures)
        result = await maybe_off_loop(parameters, partial(aggregation.result, failures))
        outcome.seconds = time.monotonic() - started
        return result

    async def evaluate(self, parameters: Parameters, version: int) -> Figures:
        """What the chosen learners find of the global model: means weighted by examples.

        Fewer answers than `min_evaluate` cost the figures of this round, not the round:
        the new global model is there and sound.
        """
        outcome = self.outcome = StageOutcome()
        evaluations: list[Evaluation] = []

        async def note(answer: Answer) -> None:
            assert isinstance(answer, Evaluation)
            refused = _refusal(answer)
            if refused:
                self._refuse(outcome, answer.learner, "evaluate", "evaluate", refused)
            else:
                evaluations.append(answer)

        started = time.monotonic()
        await self._ask("evaluate", parameters, version, outcome, note)
        outcome.seconds = time.monotonic() - started
        quorum = max(1, self.plan.min_evaluate)
        if len(evaluations) >= quorum:
            return _figures(evaluations)
        if not (evaluations or outcome.failures):
            return Figures(missing="no learner was asked to evaluate (--fraction-evaluate)")
        why = in_short(outcome.failures) or "no more were asked"
        return Figures(
            missing=f"{len(evaluations)} of {quorum} evaluations (--min-evaluate-clients): {why}"
        )

    async def _ask(
        self,
        stage: Stage,
        parameters: Parameters,
        version: int,
        outcome: StageOutcome,
        take: Callable[[Answer], Awaitable[None]],
    ) -> None:
        """Ask the chosen learners and hand on what they answer, failures apart."""
        chosen = self.strategy.choose(self.round, stage, self.cohort.present())
        tasks = {learner: self._task(stage, version, chosen[learner]) for learner in chosen}
        if not tasks:
            return
        self.observer.on_stage(self.round, stage, list(tasks))
        deadline = Deadline(
            timeout=self.plan.round_timeout,
            quorum=self.plan.min_fit if stage == "fit" else self.plan.min_evaluate,
            grace=self.plan.grace,
        )
        told = partial(self.observer.on_answer, self.round, stage)
        asked = self.cohort.ask(tasks, parameters, deadline, told)
        try:
            while (answer := await asked.next()) is not None:
                if isinstance(answer, LearnerFailure):
                    outcome.failures.append(answer)
                else:
                    await take(answer)
                del answer  # a model's worth of memory, not to be held while the next is awaited
        finally:
            asked.close()

    def _task(self, stage: Stage, version: int, config: Mapping[str, Scalar]) -> Task:
        return Task(
            stage=stage,
            run_id=self.plan.run_id,
            round=self.round,
            version=version,
            seed=self.plan.seed,
            config=config,
        )

    def _refuse(
        self, outcome: StageOutcome, learner: str, stage: Stage, where: str, reason: str
    ) -> None:
        """An answer that came cannot be used: a failure like any other."""
        outcome.failures.append(LearnerFailure(learner=learner, stage=where, reason=reason))
        self.observer.on_answer(self.round, stage, learner, reason)

    def _require_quorum(self, outcome: StageOutcome) -> None:
        quorum = max(1, self.plan.min_fit)
        if len(outcome.answered) >= quorum:
            return
        why = in_short(outcome.failures) or "nobody could be asked"
        raise FederationError(
            f"round {self.round} needs {quorum} updates (--min-fit-clients) and got "
            f"{len(outcome.answered)}. Missing: {why}"
        )


async def maybe_off_loop(parameters: Parameters, work: Callable[[], T]) -> T:
    """Do work on a model: here if it is small, else on a thread."""
    return work() if is_small(parameters) else await asyncio.to_thread(work)


def is_small(parameters: Parameters) -> bool:
    """Whether arithmetic on a model costs less than a change of thread."""
    return Layout.of(parameters).nbytes < OFF_LOOP_BYTES


def _refusal(evaluation: Evaluation) -> str:
    """Why an evaluation cannot enter the round's figures; empty when it can."""
    accuracy = evaluation.metrics.get("accuracy")
    known = float(accuracy) if isinstance(accuracy, float | int) else 0.0
    sound = (
        0 < evaluation.examples <= MAX_EXAMPLES
        and abs(evaluation.loss) <= LARGEST_LOSS  # False for NaN, too
        and -LARGEST_LOSS <= known <= LARGEST_ACCURACY
    )
    if sound:
        return ""
    return (
        f"evaluation refused: loss {evaluation.loss}, accuracy {accuracy!r:.40} over "
        f"{evaluation.examples} samples; expected 1 to 2^40 samples, finite numbers, and an "
        f"accuracy of at most {LARGEST_ACCURACY:g}"
    )


def _figures(evaluations: Sequence[Evaluation]) -> Figures:
    total = sum(e.examples for e in evaluations)
    loss = sum(e.loss * e.examples for e in evaluations) / total
    known = [e for e in evaluations if isinstance(e.metrics.get("accuracy"), float | int)]
    seen = sum(e.examples for e in known)
    if not seen:
        return Figures(loss, None, total)
    accuracy = sum(float(e.metrics["accuracy"]) * e.examples for e in known) / seen
    return Figures(loss, accuracy, total)
