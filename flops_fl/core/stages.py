"""Fit and evaluation: ask the chosen learners and aggregate their answers."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar

from flops_fl.core.aggregation import Judgement, Strategy
from flops_fl.core.failures import in_short
from flops_fl.core.lineage import entry_of
from flops_fl.core.observer import Observer
from flops_fl.core.plan import Cohort, Plan
from flops_fl.dtypes import OPAQUE, dtype_name
from flops_fl.errors import BadUpdate, FederationError
from flops_fl.types import (
    MAX_EXAMPLES,
    Evaluation,
    LearnerFailure,
    Parameters,
    Scalar,
    Stage,
    Task,
    Update,
)

T = TypeVar("T")

OFF_LOOP_BYTES = 1 << 20
NOBODY = "no learner was asked to evaluate"  # how such a reason begins
LEARNERS, FAILURES = "cluster.learners", "cluster.failures"
"""Metrics of a cluster's update: the number of its learners, and of those that failed."""
LARGEST_LOSS = 1e30  # far beyond any loss; the sum of such losses is still finite
LARGEST_ACCURACY = 100.0  # percent; one learner's absurd value would decide the best round


@dataclass(slots=True)
class StageOutcome:
    """The answers and failures of the learners that were asked in one stage."""

    answered: list[str] = field(default_factory=list)
    failures: list[LearnerFailure] = field(default_factory=list)
    seconds: float = 0.0
    metrics: Mapping[str, Scalar] = field(default_factory=dict)
    examples: int = 0
    clusters: dict[str, dict[str, int]] = field(default_factory=dict)
    data: dict[str, dict[str, str | int]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Figures:
    """Loss, accuracy and number of samples of an evaluation; `missing` says why there is none."""

    loss: float | None = None
    accuracy: float | None = None
    examples: int = 0
    missing: str = ""
    metrics: Mapping[str, Scalar] = field(default_factory=dict)


class _Stage:
    """Asks the chosen learners and aggregates their answers."""

    kind: Stage

    @property
    def quorum(self) -> int:
        """How many good answers the stage needs."""
        raise NotImplementedError

    def __init__(
        self, round: int, plan: Plan, cohort: Cohort, strategy: Strategy, observer: Observer
    ) -> None:
        self.round = round
        self.plan = plan
        self.strategy = strategy
        self.outcome = StageOutcome()
        self._unasked, self._present = "nobody was asked", 0
        self._cohort = cohort
        self._observer = observer

    async def _ask(self, parameters: Parameters, version: int) -> None:
        """Ask the learners, give their answers to `_take`, and collect the failures."""
        present = self._cohort.present()
        self._present = len(present)
        choose = partial(self.strategy.choose, self.round, self.kind, present, parameters)
        chosen = await asyncio.to_thread(choose) if self.strategy.foreign else choose()
        tasks = self._tasks(version, chosen)
        if not tasks:
            name = self.strategy.name
            self._unasked = f"strategy {name} chose none of the {len(present)} learners present"
            return
        self._observer.on_stage(self.round, self.kind, list(tasks))
        told = partial(self._observer.on_answer, self.round, self.kind)
        asked = self._cohort.ask(tasks, parameters, self.plan.deadline(self.quorum), told)
        try:
            while (answer := await asked.next()) is not None:
                if isinstance(answer, LearnerFailure):
                    self.outcome.failures.append(answer)
                else:
                    await self._take(answer)
                del answer  # frees a model's memory before we wait for the next answer
        finally:
            asked.close()

    async def _take(self, answer: Update | Evaluation) -> None:
        raise NotImplementedError

    def _tasks(self, version: int, chosen: Mapping[str, Mapping[str, Scalar]]) -> dict[str, Task]:
        """Each learner's task; neighbours with the same config object share one."""
        tasks, task = dict[str, Task](), None
        for learner, config in chosen.items():
            if task is None or config is not task.config:
                task = Task(
                    stage=self.kind, run_id=self.plan.run_id, round=self.round, version=version,
                    seed=self.plan.seed, config=config,
                    timeout=self.plan.share or self.plan.round_timeout,
                )  # fmt: skip
            tasks[learner] = task
        return tasks

    def _refuse(self, learner: str, where: str, reason: str) -> None:
        """Count an answer that cannot be used as its learner's failure."""
        self.outcome.failures.append(LearnerFailure(learner=learner, stage=where, reason=reason))
        self._observer.on_answer(self.round, self.kind, learner, reason)


class Fit(_Stage):
    """Makes the next global model of the chosen learners' updates."""

    kind = "fit"

    @property
    def quorum(self) -> int:
        return max(1, self.plan.min_fit)

    async def run(self, parameters: Parameters, version: int) -> Parameters:
        """Run the stage.

        Returns:
            The next global model; `parameters` themselves if the strategy makes none.

        Raises:
            FederationError: there are too few updates, or they make no model.
        """
        started = time.monotonic()
        limit = self.plan.limit
        bound = partial(limit.bound, base=parameters) if limit else None
        self._aggregation = self.strategy.aggregation(self.round, bound)
        self._small = is_small(parameters)
        await self._ask(parameters, version)
        if len(self.outcome.answered) < self.quorum:
            why = in_short(self.outcome.failures) or self._unasked
            raise FederationError(
                f"round {self.round} needs {self.quorum} updates (--min-fit-clients) and got "
                f"{len(self.outcome.answered)}. Missing: {why}"
            )
        result = partial(self._aggregation.result, len(self.outcome.failures))
        made = await maybe_off_loop(parameters, result, anyway=self.strategy.foreign)
        self.outcome.metrics = self._aggregation.metrics
        self.outcome.seconds = time.monotonic() - started
        return parameters if made is None else made

    async def _take(self, answer: Update | Evaluation) -> None:
        assert isinstance(answer, Update)
        try:
            if self._small:
                self._aggregation.add(answer)
            else:
                await asyncio.to_thread(self._aggregation.add, answer)
        except BadUpdate as error:
            reason = f"update of round {self.round} refused: {error}"
            self._refuse(answer.learner, "update", reason)
        else:
            self.outcome.answered.append(answer.learner)
            self.outcome.examples += answer.examples
            self.outcome.data[answer.learner] = entry_of(answer)
            if cluster := cluster_of(answer):
                self.outcome.clusters[answer.learner] = cluster


class Evaluate(_Stage):
    """Lets the chosen learners evaluate the global model."""

    kind = "evaluate"

    @property
    def quorum(self) -> int:
        return max(1, self.plan.min_evaluate)

    async def run(self, parameters: Parameters, version: int) -> Figures:
        """Run the stage; returns means weighted by the number of samples.

        With fewer answers than `min_evaluate` the round has no figures, but it does not fail,
        since its global model is made.
        """
        started = time.monotonic()
        self._evaluations: list[Evaluation] = []
        await self._ask(parameters, version)
        found, failures = self._evaluations, self.outcome.failures
        self.outcome.seconds = time.monotonic() - started
        if len(found) >= self.quorum:
            judge = partial(self.strategy.judge, self.round, found, len(failures))
            judged = await asyncio.to_thread(judge) if self.strategy.foreign else judge()
            return _figures(found) if judged is None else _judged(judged, found)
        if not (found or failures):
            return Figures(missing=f"{NOBODY} ({self._why_nobody()})")
        why = in_short(failures) or "no more were asked"
        return Figures(
            missing=f"{len(found)} of {self.quorum} evaluations (--min-evaluate-clients): {why}"
        )

    def _why_nobody(self) -> str:
        needed = max(self.quorum, self.plan.min_available)
        if self._present >= needed:
            return "--fraction-evaluate"
        options = "--min-available-clients, --min-evaluate-clients"
        return f"{self._present} of {needed} present; {options}"

    async def _take(self, answer: Update | Evaluation) -> None:
        assert isinstance(answer, Evaluation)
        refused = refusal(answer)
        if refused:
            self._refuse(answer.learner, "evaluate", refused)
        else:
            self._evaluations.append(answer)


async def maybe_off_loop(
    parameters: Parameters, work: Callable[[], T], *, anyway: bool = False
) -> T:
    """Do work on a model, on a thread if the model is large or `anyway` is set."""
    here = is_small(parameters) and not anyway
    return work() if here else await asyncio.to_thread(work)


def is_small(parameters: Parameters) -> bool:
    """Whether arithmetic on a model takes less time than a change of thread."""
    opaque = any(dtype_name(array.dtype) == OPAQUE for array in parameters)  # slow to parse
    return not opaque and sum(array.nbytes for array in parameters) < OFF_LOOP_BYTES


def cluster_of(update: Update) -> dict[str, int]:
    """The numbers of learners and failures in a cluster's update; empty for a plain learner."""
    said = {name: update.metrics.get(name) for name in (LEARNERS, FAILURES)}
    counts = {
        name.rpartition(".")[2]: count
        for name, count in said.items()
        if isinstance(count, int) and 0 <= count <= MAX_EXAMPLES
    }
    return counts if len(counts) == len(said) else {}


def refusal(evaluation: Evaluation) -> str:
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


def _judged(judged: Judgement, evaluations: Sequence[Evaluation]) -> Figures:
    """The strategy's figures of evaluations; if it gives no accuracy, our mean."""
    if judged.loss is None:
        return Figures(missing=judged.missing, metrics=judged.metrics)
    ours = _figures(evaluations)
    accuracy = accuracy_in(judged.metrics)
    known = ours.accuracy if accuracy is None else accuracy
    return Figures(judged.loss, known, ours.examples, metrics=judged.metrics)


def accuracy_in(metrics: Mapping[str, Scalar]) -> float | None:
    """The accuracy in a strategy's metrics, if it is a number that may decide the best round."""
    told = metrics.get("accuracy")
    sound = isinstance(told, float | int) and -LARGEST_LOSS <= told <= LARGEST_ACCURACY
    return float(told) if sound else None  # type: ignore[arg-type]
