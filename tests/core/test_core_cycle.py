"""A cluster's cycle starts from the root's model, keeps its deadline and belongs to its run."""

import asyncio

import numpy as np
import pytest

from flops_fl.core import cycle as cycle_
from flops_fl.core import rounds as rounds_
from flops_fl.core import stages as stages_
from flops_fl.core.cycle import Cycles, Relay
from flops_fl.core.fedavg import FedAvg
from flops_fl.core.observer import Observer
from flops_fl.core.plan import Plan, State
from flops_fl.core.rounds import Training
from flops_fl.errors import FederationError
from flops_fl.types import Layout, LearnerFailure, Task
from tests.core.fakes import START, Collecting, FakeCohort

PLAN = Plan(
    run_id="c1", rounds=3, seed=0, min_available=2, min_fit=2, min_evaluate=2, round_timeout=100,
    join_timeout=100,
)  # fmt: skip


class Learners(FakeCohort):
    """Two of them, that note what they are told; from `fails_from` on they fail."""

    def __init__(self, fails_from=10**9, clock=None, take=0.0):
        super().__init__(["n1", "n2"])
        self.tasks, self.deadlines, self.fails_from = [], [], fails_from
        self.clock, self.take, self.last = clock, take, take

    def ask(self, tasks, parameters, deadline, on_answer):
        task = tasks["n1"]
        self.tasks.append(task)
        self.deadlines.append(deadline)
        if self.clock:
            self.clock.now += self.take if len(self.tasks) < self.fails_from else self.last
        self.broken = {"n1", "n2"} if len(self.tasks) >= self.fails_from else set()
        return super().ask(tasks, parameters, deadline, on_answer)

    @property
    def rounds(self):
        return [(task.stage, task.round, task.version) for task in self.tasks]


def cycles(learners, state=None, relay=None):
    relay = relay or Relay(FedAvg(Layout.of(START), seed=0))
    training = Training(state or State(parameters=START), PLAN, relay)
    return Cycles("c", training, relay, learners, rounds=3, observer=Observer()), training


def task(version=0, stage="fit", run="root", **more):
    round = version + 1 if stage == "fit" else version
    return Task(stage=stage, run_id=run, round=round, version=version, seed=7, **more)


def run(work):
    return asyncio.run(work)


def test_a_cycle_is_its_rounds_and_speaks_for_its_learners_once():
    learners = Learners()
    cycle, _ = cycles(learners)
    update = run(cycle.fit(task(config={"proximal_mu": 0.5}), START))
    # n1 adds 1 and has 2 samples, n2 adds 2 and has 3: 8 / 5 a round.
    np.testing.assert_allclose(update.parameters[0], 3 * 8 / 5, rtol=1e-6)
    assert update.examples == 5
    assert update.metrics == {"cluster.learners": 2, "cluster.failures": 0}
    assert learners.rounds == [("fit", 1, 0), ("fit", 2, 1), ("fit", 3, 2)]
    assert {(t.seed, t.run_id) for t in learners.tasks} == {(7, "root.c1")}
    assert all(t.config == {"proximal_mu": 0.5} for t in learners.tasks)


def test_the_next_cycle_and_the_evaluation_are_of_the_roots_model():
    learners = Learners()
    cycle, _ = cycles(learners)
    run(cycle.fit(task(), START))
    roots = [START[0] + 9, START[1]]
    found = run(cycle.evaluate(task(1, "evaluate"), roots))
    assert (found.loss, found.examples, found.metrics) == (27.0, 4, {"accuracy": 0.5})
    update = run(cycle.fit(task(1), roots))
    np.testing.assert_allclose(update.parameters[0], 9 + 3 * 8 / 5, rtol=1e-6)
    # Learners that hold version 3, the root's, are not sent it again.
    assert learners.rounds[3:] == [("evaluate", 3, 3), ("fit", 4, 3), ("fit", 5, 4), ("fit", 6, 5)]


def test_a_cycle_that_was_cut_off_goes_on_and_one_of_another_run_does_not():
    relay = Relay(FedAvg(Layout.of(START), seed=0))
    relay.restore({"root_run": "root"})
    left = State(parameters=[START[0] + 100, START[1]], round=2)
    learners = Learners()
    update = run(cycles(learners, left, relay)[0].fit(task(), START))
    assert learners.rounds == [("fit", 3, 2)]
    np.testing.assert_allclose(update.parameters[0], 100 + 8 / 5, rtol=1e-6)

    learners = Learners()
    update = run(cycles(learners, left, relay)[0].fit(task(run="another"), START))
    assert len(learners.rounds) == 3
    np.testing.assert_allclose(update.parameters[0], 3 * 8 / 5, rtol=1e-6)
    assert relay.state()["root_run"] == "another"


class Remembers(FedAvg):
    """The models that it was told to start from."""

    def __init__(self):
        super().__init__(Layout.of(START), seed=0)
        self.starts = []

    def start(self, parameters):
        self.starts.append(parameters[0].copy())


def test_a_strategy_starts_each_cycle_from_the_roots_model():
    strategy = Remembers()
    cycle, _ = cycles(Learners(), relay=Relay(strategy))
    run(cycle.fit(task(), START))
    run(cycle.evaluate(task(1, "evaluate"), START))
    run(cycle.fit(task(1), [START[0] + 9, START[1]]))
    assert [start.flat[0] for start in strategy.starts] == [0, 9]


class Clock:
    """A time that only the learners' work takes."""

    now = 1000.0

    def monotonic(self):
        return self.now

    time = monotonic


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    for module in (cycle_, rounds_, stages_):
        monkeypatch.setattr(module, "time", clock)
    return clock


def test_each_round_gets_its_share_of_the_roots_time_and_all_of_it_for_its_quorum(clock):
    learners = Learners(clock=clock, take=6.0)
    run(cycles(learners)[0].fit(task(timeout=60.0), START))
    assert [deadline.share for deadline in learners.deadlines] == [54 / 3, 48 / 2, 42]
    assert [deadline.timeout for deadline in learners.deadlines] == [54, 48, 42]
    # What a cluster below is told is its share: it has rounds of its own to fit in.
    assert [task.timeout for task in learners.tasks] == [54 / 3, 48 / 2, 42]


def test_a_cycle_that_has_no_time_left_gives_what_it_has(clock):
    learners = Learners(clock=clock, take=20.0, fails_from=3)
    update = run(cycles(learners)[0].fit(task(timeout=61.0), START))
    np.testing.assert_allclose(update.parameters[0], 2 * 8 / 5, rtol=1e-6)
    assert len(learners.rounds) == 2  # a third one would end after the deadline


def test_a_round_that_the_roots_deadline_ends_costs_no_earlier_one(clock):
    learners = Learners(clock=clock, take=5.0, fails_from=3)
    cycle, _ = cycles(learners)
    learners.last = 60.0
    update = run(cycle.fit(task(timeout=61.0), START))
    np.testing.assert_allclose(update.parameters[0], 2 * 8 / 5, rtol=1e-6)
    assert len(learners.rounds) == 3


def test_a_cluster_that_loses_its_quorum_before_the_deadline_fails():
    cycle, _ = cycles(Learners(fails_from=3))
    with pytest.raises(FederationError, match="round 3 needs 2 updates"):
        run(cycle.fit(task(timeout=60.0), START))


def test_a_cluster_that_loses_its_quorum_says_so_and_starts_anew():
    learners = Learners(fails_from=2)
    cycle, training = cycles(learners)
    with pytest.raises(FederationError, match="round 2 needs 2 updates"):
        run(cycle.fit(task(), START))
    assert isinstance(training.failed_round.failures[0], LearnerFailure)
    learners.fails_from = 10**9
    run(cycle.fit(task(1), START))
    assert learners.rounds[-3:] == [("fit", 4, 3), ("fit", 5, 4), ("fit", 6, 5)]
    assert training.failed_round is None


def test_an_evaluation_that_nobody_gives_is_a_failure():
    with pytest.raises(FederationError, match="0 of 2 evaluations"):
        run(cycles(Learners(fails_from=1))[0].evaluate(task(0, "evaluate"), START))


def test_a_cluster_speaks_for_its_learners_data_by_one_hash():
    def trained(said, version=0):
        cycle, _ = cycles(Collecting(said))
        return run(cycle.fit(task(version), START)).data

    same = trained({"n1": ["aa"] * 3, "n2": ["bb"] * 3})
    assert len(same) == 16
    assert trained({"n1": ["aa"] * 3, "n2": ["bb"] * 3}, version=1) == same
    assert trained({"n1": ["aa"] * 3, "n2": ["bb", "bb", "cc"]}) != same
    assert trained({"n1": ["aa"] * 3, "n2": [""] * 3}) not in ("", same)
    assert trained({"n1": [""] * 3, "n2": [""] * 3}) == ""
