"""A federated training, round by round: select, fit, aggregate, evaluate.

A round is a function state -> state, and `Training` owns the state. Whatever ends the training,
`state` is the result of the last completed fit or evaluation. The training talks to learners
through one small protocol, `Cohort`, so native sessions, nodes of Flower's Grid and the fakes of a
test look the same to it. The cohort hands out updates in learner-id order; each is folded into the
mean and then dropped.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from flops_fl.core.aggregation import Judgement, Strategy
from flops_fl.core.lineage import changes
from flops_fl.core.observer import Observer
from flops_fl.core.plan import Cohort, Journal, Plan, State
from flops_fl.core.stages import (
    NOBODY,
    Evaluate,
    Figures,
    Fit,
    StageOutcome,
    accuracy_in,
    maybe_off_loop,
)
from flops_fl.errors import FederationError
from flops_fl.text import counted
from flops_fl.types import Best, RoundRecord


class Training:
    """Runs the remaining rounds of a plan, and owns their state.

    Args:
        state: The state to start from. The training owns it: the caller should keep no reference,
            since the state holds a whole model.
        observer: Is told what happens; the training does not depend on it.
        journal: Gets each new state first and saves it, so that the state outlives the process.
    """

    def __init__(
        self,
        state: State,
        plan: Plan,
        strategy: Strategy,
        observer: Observer | None = None,
        journal: Journal | None = None,
    ) -> None:
        self.state = state
        self.failed_round: RoundRecord | None = None
        """The round that ended the training by too few updates or without a model, if any."""
        self.plan = plan
        self._strategy = strategy
        self._observer = observer or Observer()
        self._journal = journal

    @property
    def over(self) -> bool:
        """Whether no round is left."""
        return self.state.round >= self.plan.rounds and self.state.pending is None

    async def run(self, cohort: Cohort) -> State:
        """Run all remaining rounds; returns the final state.

        Raises:
            FederationError: too few learners joined, or too few of those asked delivered.
        """
        self.begin()
        if self.state.round == 0 and self.state.initial is None:
            await self._look_at_the_start()
        if self.state.initial is not None:
            self._observer.on_initial(self.state.initial)
        while not self.over:
            await self.play_round(cohort)
        return self.state

    async def _look_at_the_start(self) -> None:
        started = time.monotonic()
        found = await self._server_side(0)
        if found is not None:
            seconds = time.monotonic() - started
            empty = RoundRecord(
                round=0, seconds=seconds, fit_seconds=0.0, evaluate_seconds=seconds, loss=None,
                accuracy=None, examples=0, bytes_down=0, bytes_up=0, learners=(),
                ended=time.time(),
            )  # fmt: skip
            await self._take(replace(self.state, initial=_with_server(empty, found)))

    async def _server_side(self, round: int) -> Judgement | None:
        """The strategy's own evaluation of the global model."""
        look = partial(self._strategy.evaluate, round, self.state.parameters)
        return await asyncio.to_thread(look) if self._strategy.foreign else look()

    def begin(self) -> None:
        """Give the journal the state from which the next rounds start."""
        if self._journal:
            self._journal.begin(self.state)

    async def play_round(self, cohort: Cohort) -> None:
        """Run one round: fit and fold, then evaluate the new global model.

        If the state is pending, the round's fit is done and only the evaluation is left. The
        journal saves the model before anybody evaluates it: learners drop their updates when they
        get another task, so the model must be on disk by then.
        """
        for learner in excluded(self.state.history, self.plan.max_failures):
            reason = f"it failed in {counted(self.plan.max_failures or 0, 'round')} in a row"
            cohort.dismiss(learner, reason)
            self._observer.on_put_aside(learner, reason)
        if len(present := cohort.present()) < self.plan.min_available:
            self._observer.on_wait(present, self.plan.min_available)
        await cohort.gather(self.plan.min_available, self.plan.join_timeout)
        number = self.state.round if self.state.pending else self.state.round + 1
        common = (number, self.plan, cohort, self._strategy, self._observer)
        if self.state.pending is None:
            await self._fit(Fit(*common), _Began(cohort))
        await self._evaluate(Evaluate(*common), _Began(cohort))
        self._observer.on_round(self.state.history[-1], self.state.best)

    async def _fit(self, stage: Fit, began: _Began) -> None:
        try:
            parameters = await stage.run(self.state.parameters, self.state.round)
        except FederationError:
            self.failed_round = began.record(self.state, stage.round, stage.outcome)
            self._observer.on_failed_round(self.failed_round)
            raise
        parameters = await maybe_off_loop(parameters, partial(stage.plan.keep, parameters))
        record = began.record(self.state, stage.round, stage.outcome)
        await self._take(
            replace(self.state, parameters=parameters, round=stage.round, pending=record)
        )

    async def _evaluate(self, stage: Evaluate, began: _Began) -> None:
        state = self.state
        assert state.pending is not None
        found = await self._server_side(state.round)
        figures = await stage.run(state.parameters, state.round)
        record = began.add(state.pending, stage.outcome, figures)
        if found is not None:
            record = _with_server(record, found)
        best = Best.after(state.best, record)
        await self._take(replace(state, history=(*state.history, record), best=best, pending=None))

    async def _take(self, state: State) -> None:
        self.state = state
        if self._journal:
            written = partial(self._journal.write, state)
            await maybe_off_loop(state.parameters, written)


def excluded(history: Sequence[RoundRecord], max_failures: int | None) -> list[str]:
    """Learners that have failed in `max_failures` rounds in a row.

    Rounds in which a learner was not asked do not count for it. The excluded
    learners follow from the history alone, so a resumed run excludes the same ones.
    """
    streaks: Counter[str] = Counter()
    aside: set[str] = set()
    for record in history if max_failures else ():
        if not (record.failures or streaks):
            continue  # as most records: a long history is read before each round
        failed = {failure.learner for failure in record.failures}
        streaks.update(failed)
        for learner in set(record.learners) - failed:
            del streaks[learner]
        aside |= {learner for learner in failed if streaks[learner] >= (max_failures or 0)}
    return sorted(aside)


def _with_server(record: RoundRecord, found: Judgement) -> RoundRecord:
    """The record with the strategy's own figures; the round's, too, if no learner evaluates."""
    record = replace(record, server_loss=found.loss, server_metrics=found.metrics)
    if not record.not_evaluated.startswith(NOBODY) or found.loss is None:
        return record
    accuracy = accuracy_in(found.metrics)
    return replace(record, loss=found.loss, accuracy=accuracy, not_evaluated="")


class _Began:
    """The time and the traffic at the start of a stage, from which a record counts."""

    def __init__(self, cohort: Cohort) -> None:
        self._cohort = cohort
        self._time = time.monotonic()
        self._down, self._up = cohort.traffic()

    def record(self, before: State, round: int, fit: StageOutcome) -> RoundRecord:
        """The record of a round after its fit."""
        down, up = self._cohort.traffic()
        return RoundRecord(
            round=round,
            seconds=time.monotonic() - self._time,
            fit_seconds=fit.seconds,
            evaluate_seconds=0.0,
            loss=None,
            accuracy=None,
            examples=0,
            bytes_down=down - self._down,
            bytes_up=up - self._up,
            learners=tuple(fit.answered),
            failures=tuple(fit.failures),
            fit_metrics=fit.metrics,
            fit_examples=fit.examples,
            clusters=fit.clusters,
            new_data=changes(before.history, fit.data),
            ended=time.time(),
        )

    def add(self, fitted: RoundRecord, evaluation: StageOutcome, figures: Figures) -> RoundRecord:
        """The record of a round after its evaluation."""
        down, up = self._cohort.traffic()
        return replace(
            fitted,
            seconds=fitted.seconds + time.monotonic() - self._time,
            evaluate_seconds=evaluation.seconds,
            loss=figures.loss,
            accuracy=figures.accuracy,
            examples=figures.examples,
            bytes_down=fitted.bytes_down + down - self._down,
            bytes_up=fitted.bytes_up + up - self._up,
            failures=(*fitted.failures, *evaluation.failures),
            not_evaluated=figures.missing,
            metrics=figures.metrics,
            ended=time.time(),
        )
