"""A federated training, round by round: select, fit, aggregate, evaluate.

A round is state -> state. It talks to learners through one small protocol, `Cohort`, so
that native sessions, nodes of Flower's Grid and the fakes of a test are the same to it.
Updates are folded in learner-id order as the cohort hands them out, and dropped.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from flops_fl.core.aggregation import Strategy
from flops_fl.core.observer import Observer
from flops_fl.core.plan import Cohort, Plan, State
from flops_fl.core.stages import Stages, maybe_off_loop
from flops_fl.types import Best, RoundRecord


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
    while state.round < plan.rounds or state.pending:
        state = await play_round(state, plan, cohort, strategy, observer)
    return state


async def play_round(
    state: State, plan: Plan, cohort: Cohort, strategy: Strategy, observer: Observer
) -> State:
    """One round: fit and fold, then evaluate the new global model.

    A state that is pending has the fit behind it: only the evaluation is left. Observers hear
    of the model before anybody evaluates it: learners drop their updates when they are asked
    for something else, so it must be safe on disk by then.
    """
    for learner in put_aside(state.history, plan.max_failures):
        cohort.dismiss(learner, f"it failed in {plan.max_failures} rounds in a row")
    await cohort.gather(plan.min_available, plan.join_timeout)
    number = state.round if state.pending else state.round + 1
    stage = Stages(plan, cohort, strategy, observer, number)
    if state.pending is None:
        state = await _fit(state, stage)
        assert state.pending is not None
        told = partial(observer.on_fit, state.pending, state.parameters)
        await maybe_off_loop(state.parameters, told)
    state = await _evaluate(state, stage)
    assert state.best is not None
    told = partial(observer.on_round, state.history[-1], state.parameters, state.best)
    await maybe_off_loop(state.parameters, told)
    return state


def put_aside(history: Sequence[RoundRecord], max_failures: int | None) -> list[str]:
    """Learners that failed in `max_failures` rounds in a row, in which they were asked.

    Read from the history alone, so that a run taken up again judges as the whole one does.
    """
    streaks: Counter[str] = Counter()
    aside: set[str] = set()
    for record in history if max_failures else ():
        failed = {failure.learner for failure in record.failures}
        streaks.update(failed)
        for learner in set(record.learners) - failed:
            del streaks[learner]
        aside |= {learner for learner in failed if streaks[learner] >= (max_failures or 0)}
    return sorted(aside)


async def _fit(state: State, stage: Stages) -> State:
    started, before = time.monotonic(), stage.cohort.traffic()
    parameters, outcome = await stage.fit(state.parameters, state.round)
    parameters = await maybe_off_loop(parameters, partial(stage.plan.keep, parameters))
    down, up = _since(before, stage.cohort)
    record = RoundRecord(
        round=stage.round,
        seconds=time.monotonic() - started,
        fit_seconds=outcome.seconds,
        evaluate_seconds=0.0,
        loss=None,
        accuracy=None,
        examples=0,
        bytes_down=down,
        bytes_up=up,
        learners=tuple(outcome.answered),
        failures=tuple(outcome.failures),
    )
    return replace(state, parameters=parameters, round=stage.round, pending=record)


async def _evaluate(state: State, stage: Stages) -> State:
    assert state.pending is not None
    fitted, started, before = state.pending, time.monotonic(), stage.cohort.traffic()
    (loss, accuracy, examples), outcome = await stage.evaluate(state.parameters, state.round)
    down, up = _since(before, stage.cohort)
    record = replace(
        fitted,
        seconds=fitted.seconds + time.monotonic() - started,
        evaluate_seconds=outcome.seconds,
        loss=loss,
        accuracy=accuracy,
        examples=examples,
        bytes_down=fitted.bytes_down + down,
        bytes_up=fitted.bytes_up + up,
        failures=(*fitted.failures, *outcome.failures),
    )
    best = state.best
    if best is None or best.beaten_by(record):
        best = Best(round=state.round, loss=loss, accuracy=accuracy)
    return replace(state, history=(*state.history, record), best=best, pending=None)


def _since(before: tuple[int, int], cohort: Cohort) -> tuple[int, int]:
    """Bytes down and up since `before`."""
    (down, up), (earlier_down, earlier_up) = cohort.traffic(), before
    return down - earlier_down, up - earlier_up
