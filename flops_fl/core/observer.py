"""Observers are told what happens in a federation and decide nothing.

They are called on the aggregator's event loop, so each call must return at once. An observer with
slow work (a tracking server, a broker) needs its own thread. If an observer raises, the error is
logged and only its own report is lost. Observers get no model, so none can keep one in memory.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from flops_fl.types import Best, RoundRecord, Setup, Stage

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class RunInfo:
    """What is known about a run before its first round."""

    project_id: str
    run_id: str
    repo_source: str
    repo_commit: str | None
    repo_folder: str | None = None
    """The absolute path, unless it came from a URL: `repo_source` is as a person wrote it."""
    strategy: str
    seed: int
    rounds: int
    """0 in a cluster: its root alone knows how many there will be."""
    options: dict[str, Any] = field(default_factory=dict)
    """The strategy's options, and the training's by name: min_available_clients, min_fit_clients,
    min_evaluate_clients, fraction_fit, fraction_evaluate, ... All, defaults included."""


class Observer:
    """Base of all observers. Hooks do nothing unless a subclass overrides them."""

    def on_start(self, run: RunInfo, history: Sequence[RoundRecord]) -> None:
        """A run begins, or goes on after `history`."""

    def on_wait(self, present: Sequence[str], minimum: int) -> None:
        """Learners come and go; a round needs `minimum` to start."""

    def on_join(self, learner: str, setup: Setup) -> None:
        """A learner is let in, for the first time or again, and says what it trains with."""

    def on_cut_off(self, learner: str, reason: str, seconds: float) -> None:
        """A learner is not connected any more, and is expected back for so many seconds.

        `reason` is empty if a person need not hear of it.
        """

    def on_put_aside(self, learner: str, reason: str) -> None:
        """A learner is asked no more; told before each round."""

    def on_return(self, learner: str) -> None:
        """A learner whose connection was lost is back."""

    def on_stage(self, round: int, stage: Stage, learners: Sequence[str]) -> None:
        """`learners` were asked to fit or evaluate in `round`."""

    def on_answer(self, round: int, stage: Stage, learner: str, failure: str | None) -> None:
        """One of them has answered; `failure` is the reason if it failed."""

    def on_initial(self, record: RoundRecord) -> None:
        """The strategy has judged the initial model itself: its figures, as those of a round 0."""

    def on_round(self, record: RoundRecord, best: Best | None) -> None:
        """A round is complete; `best` is the best evaluated one so far, or None."""

    def on_failed_round(self, record: RoundRecord) -> None:
        """A round failed, and with it the training: there is no new global model."""

    def on_end(self, status: str, error: str | None) -> None:
        """The run is over: status ``completed``, ``failed`` or ``interrupted``."""


class Observers(Observer):
    """Several observers as one. An error in one does not reach the others or the training."""

    def __init__(self, observers: Sequence[Observer]) -> None:
        self._observers = list(observers)

    def _each(self, call: Callable[[Observer], None]) -> None:
        for observer in self._observers:
            try:
                call(observer)
            except Exception:
                log.exception("observer %s failed; training goes on", type(observer).__name__)

    def on_start(self, run: RunInfo, history: Sequence[RoundRecord]) -> None:
        self._each(lambda o: o.on_start(run, history))

    def on_wait(self, present: Sequence[str], minimum: int) -> None:
        self._each(lambda o: o.on_wait(present, minimum))

    def on_join(self, learner: str, setup: Setup) -> None:
        self._each(lambda o: o.on_join(learner, setup))

    def on_cut_off(self, learner: str, reason: str, seconds: float) -> None:
        self._each(lambda o: o.on_cut_off(learner, reason, seconds))

    def on_put_aside(self, learner: str, reason: str) -> None:
        self._each(lambda o: o.on_put_aside(learner, reason))

    def on_return(self, learner: str) -> None:
        self._each(lambda o: o.on_return(learner))

    def on_stage(self, round: int, stage: Stage, learners: Sequence[str]) -> None:
        self._each(lambda o: o.on_stage(round, stage, learners))

    def on_answer(self, round: int, stage: Stage, learner: str, failure: str | None) -> None:
        self._each(lambda o: o.on_answer(round, stage, learner, failure))

    def on_initial(self, record: RoundRecord) -> None:
        self._each(lambda o: o.on_initial(record))

    def on_round(self, record: RoundRecord, best: Best | None) -> None:
        self._each(lambda o: o.on_round(record, best))

    def on_failed_round(self, record: RoundRecord) -> None:
        self._each(lambda o: o.on_failed_round(record))

    def on_end(self, status: str, error: str | None) -> None:
        self._each(lambda o: o.on_end(status, error))
