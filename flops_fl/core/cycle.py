"""Clustered federated learning: a cluster's rounds are one learner's fit.

A cluster aggregator is a learner to its root and an aggregator to its own learners. In one cycle
it takes the root's model, runs some rounds with its learners, and answers with the resulting model
(Liu et al. 2020, arXiv:1905.06641). The mean of the clusters' means, weighted by samples, is the
mean of all learners. So with one round a cycle the tree gives the model of a flat federation.

A cluster numbers its rounds through all cycles: with R rounds a cycle, version v of the root's
model is version v * R in the cluster. So a version identifies one model in the cluster, too, and
learners can keep the parameters that they hold. The name of the cluster's own run is in its tasks
for the same reason: a cluster that begins anew within a run of its root makes other models.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from flops_fl.core.aggregation import Aggregation, Judgement, Strategy
from flops_fl.core.lineage import together
from flops_fl.core.observer import Observer
from flops_fl.core.plan import Cohort, Plan, State
from flops_fl.core.rounds import Training
from flops_fl.core.stages import FAILURES, LEARNERS, Evaluate
from flops_fl.errors import FederationError
from flops_fl.types import Evaluation, Layout, Parameters, Scalar, Stage, Task, Update

log = logging.getLogger(__name__)

IN_TIME = 0.9
"""Share of the root's deadline for the rounds of a cycle; the rest is for sending the update."""
_RUN = "root_run"


class Relay:
    """A cluster's strategy, which also passes the root's configs on to the cluster's learners.

    Args:
        strategy: The strategy of the cluster's rounds. It also chooses the learners that evaluate
            the root's model; the rounds of a cycle are not evaluated.
    """

    def __init__(self, strategy: Strategy) -> None:
        self.config: Mapping[str, Scalar] = {}
        """The config of the root's task, such as FedProx's `proximal_mu`."""
        self.evaluating = False
        self.root_run = ""
        """The run of the root to which the strategy's state belongs."""
        self._strategy = strategy
        self._fresh = dict(strategy.state())

    @property
    def name(self) -> str:
        return self._strategy.name

    @property
    def options(self) -> Mapping[str, Scalar]:
        return self._strategy.options

    def begin(self, root_run: str) -> None:
        """Begin a run of the root, with the strategy's state as it was at first."""
        self.root_run = root_run
        self._strategy.restore(self._fresh)

    @property
    def foreign(self) -> bool:
        return self._strategy.foreign

    def initial(self, parameters: Parameters) -> Parameters:
        """The same parameters: the root gives the initial model of each cycle."""
        return parameters

    def start(self, parameters: Parameters) -> None:
        """Start a cycle from the root's model."""
        self._strategy.start(parameters)

    def evaluate(self, round: int, parameters: Parameters) -> Judgement | None:
        """None: only the root's strategy evaluates a model itself."""
        return None

    def judge(
        self, round: int, evaluations: Sequence[Evaluation], failures: int
    ) -> Judgement | None:
        """See `Strategy.judge`; the cluster's own strategy does it."""
        return self._strategy.judge(round, evaluations, failures)

    def choose(
        self, round: int, stage: Stage, learners: Sequence[str], parameters: Parameters
    ) -> dict[str, dict[str, Scalar]]:
        """The cluster's strategy chooses; its config entries take precedence over the root's."""
        if stage == "evaluate" and not self.evaluating:
            return {}
        chosen = self._strategy.choose(round, stage, learners, parameters)
        return {learner: {**self.config, **config} for learner, config in chosen.items()}

    def aggregation(
        self, round: int, bound: Callable[[Update], Update] | None = None
    ) -> Aggregation:
        """See `Strategy.aggregation`; the cluster's own strategy does it."""
        return self._strategy.aggregation(round, bound)

    def state(self) -> dict[str, Any]:
        """The strategy's state, and the run of the root to which it belongs."""
        return {**self._strategy.state(), _RUN: self.root_run}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state` gave."""
        inner = dict(state)
        self.root_run = str(inner.pop(_RUN, ""))
        self._strategy.restore(inner)


class Cycles:
    """A cluster's training, which runs one cycle for each fit that the root asks for.

    Args:
        name: The cluster's name at the root.
        training: The training that plays the rounds. If it was resumed within a cycle, that
            cycle continues.
        relay: The training's strategy.
        rounds: The number of rounds in each cycle.
    """

    def __init__(
        self,
        name: str,
        training: Training,
        relay: Relay,
        cohort: Cohort,
        *,
        rounds: int,
        observer: Observer,
    ) -> None:
        self._name = name
        self._training = training
        self._relay = relay
        self._cohort = cohort
        self._rounds = rounds
        self._observer = observer
        self._plan = training.plan
        self.layout = Layout.of(training.state.parameters)
        self.traceback = ""
        """The traceback of the first learner whose code raised in a failed cycle, if any."""

    async def fit(self, task: Task, parameters: Parameters) -> Update:
        """Run a cycle that starts from the root's model.

        Returns:
            The cluster's model, with the number of samples of its last round.

        Raises:
            FederationError: too few of the cluster's learners delivered.
        """
        first = task.version * self._rounds
        self._relay.config, self._relay.evaluating = task.config, False
        self._begin(task, parameters, first)
        await self._play(task, first)
        state = self._training.state
        played = [record for record in state.history if record.round > first]
        counts = {LEARNERS: len(played[-1].learners), FAILURES: sum(_failed(r) for r in played)}
        return Update(
            learner=self._name,
            parameters=state.parameters,
            examples=played[-1].fit_examples,
            metrics=counts,
            data=together(state.history, first),
        )

    async def evaluate(self, task: Task, parameters: Parameters) -> Evaluation:
        """Let the cluster's learners evaluate the root's model; means weighted by samples.

        Raises:
            FederationError: too few of them answered.
        """
        self._relay.config, self._relay.evaluating = task.config, True
        version = task.version * self._rounds
        plan = self._plan_of(task, time.monotonic() + task.timeout * IN_TIME, rounds=1)
        stage = Evaluate(version, plan, self._cohort, self._relay, self._observer)
        figures = await stage.run(parameters, version)
        if figures.loss is None:
            raise FederationError(figures.missing)
        known = figures.accuracy is not None
        return Evaluation(
            learner=self._name,
            loss=figures.loss,
            examples=figures.examples,
            metrics={"accuracy": figures.accuracy} if known else {},  # type: ignore[dict-item]
        )

    def _begin(self, task: Task, parameters: Parameters, first: int) -> None:
        """Start from the root's model, unless an earlier process has begun this cycle."""
        training, relay = self._training, self._relay
        state, same_run = training.state, relay.root_run == task.run_id
        training.failed_round, self.traceback = None, ""
        if same_run and first < state.round <= first + self._rounds:
            log.info("cycle %d goes on after round %d", task.version + 1, state.round)
        else:
            if not same_run:
                relay.begin(task.run_id)
            relay.start(parameters)
            history = [record for record in state.history if same_run and record.round <= first]
            training.state = State(parameters=parameters, round=first, history=tuple(history))
            if same_run and state.round == first:
                return  # the resumed state has this cycle's completed rounds
        training.begin()

    async def _play(self, task: Task, first: int) -> None:
        """Run a cycle's remaining rounds, until the root's deadline.

        A round that would not end in time is not begun, if there is one to give.
        """
        training, last = self._training, first + self._rounds
        ends = time.monotonic() + task.timeout * IN_TIME if task.timeout else math.inf
        while (done := training.state.round) < last or training.state.pending:
            if done > first and time.monotonic() + self._last_round() > ends:
                self._say_cut(done, "another one would take longer than is left")
                return
            plan = self._plan_of(task, ends, last - done)
            training.plan = replace(plan, rounds=last)
            try:
                await training.play_round(self._cohort)
            except FederationError as error:
                failures = training.failed_round.failures if training.failed_round else ()
                self.traceback = next((f.traceback for f in failures if f.traceback), "")
                if training.state.round == first or time.monotonic() < ends:
                    raise
                self._say_cut(done, str(error))
                return

    def _last_round(self) -> float:
        """Seconds that the last round took; 0 if it is not over, or unknown."""
        state = self._training.state
        return state.history[-1].fit_seconds if state.history and not state.pending else 0.0

    def _say_cut(self, done: int, why: str) -> None:
        log.warning("the root's deadline ends the cycle after round %d: %s", done, why)

    def _plan_of(self, task: Task, ends: float, rounds: int) -> Plan:
        """The plan of a cluster's round: the root's run and seed, and a share of its deadline."""
        plan = replace(self._plan, run_id=f"{task.run_id}.{self._plan.run_id}", seed=task.seed)
        if not task.timeout:
            return plan
        left = max(0.0, ends - time.monotonic())
        return replace(
            plan,
            round_timeout=min(plan.round_timeout, left),
            join_timeout=min(plan.join_timeout, left),
            share=min(plan.round_timeout, left / max(1, rounds)),
        )


def _failed(record: Any) -> int:
    return len({failure.learner for failure in record.failures})
