"""Rounds over fake learners: the same result whatever happens on the way."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flops_fl.core.failures import alike, in_short
from flops_fl.core.norm import NormLimit
from flops_fl.core.observer import Observer, Observers
from flops_fl.core.plan import Journal
from flops_fl.core.rounds import excluded
from flops_fl.errors import FederationError
from flops_fl.types import Evaluation, LearnerFailure, parameters_sha256
from tests.core.fakes import Collecting, FakeCohort, play


def test_a_training_of_two_rounds():
    state = play(FakeCohort(["l1", "l2", "l3"]))
    step = (1 * 2 + 2 * 3 + 3 * 4) / 9
    np.testing.assert_allclose(state.parameters[0], [2 * step] * 3, rtol=1e-6)
    assert state.parameters[0].dtype == np.float32
    assert state.parameters[1].tolist() == [10, 20]
    assert [r.round for r in state.history] == [1, 2]
    assert state.history[0].examples == 6
    assert state.best.round == 1  # same accuracy, lower loss


@settings(max_examples=30, deadline=None)
@given(st.sets(st.integers(0, 6), max_size=5), st.sets(st.integers(0, 6), max_size=5))
def test_bad_learners_change_nothing_but_their_absence(broken, poisoned):
    names = [f"l{n}" for n in range(7)]
    bad = {f"l{n}" for n in broken}, {f"l{n}" for n in poisoned}
    good = [n for n in names if n not in bad[0] | bad[1]]
    if not good:
        with pytest.raises(FederationError, match="Missing"):
            play(FakeCohort(names, *bad))
        return
    with_bad, without = play(FakeCohort(names, *bad)), play(FakeCohort(good))
    assert parameters_sha256(with_bad.parameters) == parameters_sha256(without.parameters)
    assert {f.learner for f in with_bad.history[0].failures} == bad[0] | bad[1]
    assert list(with_bad.history[0].learners) == good


def test_selection_depends_on_seed_and_round_alone():
    names = [f"l{n}" for n in range(20)]
    first, again, other = FakeCohort(names), FakeCohort(names[::-1]), FakeCohort(names)
    play(first, 4, fraction_fit=0.3, fraction_evaluate=0.2)
    play(again, 4, fraction_fit=0.3, fraction_evaluate=0.2)
    play(other, 4, seed=1, fraction_fit=0.3, fraction_evaluate=0.2)
    assert first.asked == again.asked != other.asked
    assert [len(names) for _, names in first.asked] == [6, 4] * 4
    assert len({tuple(names) for _, names in first.asked}) > 4


def test_a_run_taken_up_again_ends_where_the_whole_one_does():
    cohort = FakeCohort(["l1", "l2"])
    whole = play(cohort, 5)
    half = play(cohort, 2)
    resumed = play(cohort, 5, state=half)
    assert parameters_sha256(resumed.parameters) == parameters_sha256(whole.parameters)
    assert [r.loss for r in resumed.history] == [r.loss for r in whole.history]


class Stopped(BaseException):
    """What may come at any await: a signal, or the end of the process."""


class StopIn(Observer):
    def __init__(self, stage):
        self.stage = stage

    def on_stage(self, round, stage, learners):
        if (round, stage) == (2, self.stage):
            raise Stopped


class Disk(Journal):
    def begin(self, state):
        self.state = state

    def write(self, state):
        self.state = state


@pytest.mark.parametrize("killed_in", ["fit", "evaluate"])
def test_a_run_killed_in_a_round_loses_no_fit_that_was_folded(killed_in):
    cohort, disk = FakeCohort(["l1", "l2"]), Disk()
    whole = play(FakeCohort(["l1", "l2"]), 3)
    with pytest.raises(Stopped):
        play(cohort, 3, observer=StopIn(killed_in), journal=disk)
    resumed = play(cohort, 3, state=disk.state)
    assert parameters_sha256(resumed.parameters) == parameters_sha256(whole.parameters)
    assert [r.loss for r in resumed.history] == [r.loss for r in whole.history]
    assert sum(stage == "fit" for stage, _ in cohort.asked) == 3


@pytest.mark.parametrize(("stopped_in", "round"), [("fit", 1), ("evaluate", 2)])
def test_a_training_that_is_stopped_has_the_state_of_its_last_stage(stopped_in, round):
    started, disk = [], Disk()
    with pytest.raises(Stopped):
        play(FakeCohort(["l1"]), 3, observer=StopIn(stopped_in), journal=disk, started=started)
    (training,) = started
    assert training.state is disk.state
    assert training.state.round == round
    assert len(training.state.history) == 1
    assert (training.state.pending is None) == (stopped_in == "fit")
    assert training.failed_round is None


def test_a_training_that_fails_keeps_its_state_and_the_round_that_failed():
    class BreaksLater(FakeCohort):
        def ask(self, tasks, *rest):
            if next(iter(tasks.values())).round == 2:
                self.broken = {"l1"}
            return super().ask(tasks, *rest)

    class Watch(Observer):
        failed = None

        def on_failed_round(self, record):
            self.failed = record

    started, watch = [], Watch()
    with pytest.raises(FederationError, match="round 2 needs 2"):
        play(BreaksLater(["l1", "l2"]), 3, observer=watch, min_fit=2, started=started)
    (training,) = started
    assert [record.round for record in training.state.history] == [1]
    assert training.state.best.round == 1
    failed = training.failed_round
    assert failed is watch.failed
    assert (failed.round, failed.learners, failed.loss) == (2, ("l2",), None)
    assert [(f.learner, f.reason) for f in failed.failures] == [("l1", "broken")]


def test_a_learner_that_fails_again_and_again_is_put_aside_and_told_why():
    class Watch(Observer):
        def __init__(self):
            self.aside = {}

        def on_put_aside(self, learner, reason):
            self.aside[learner] = reason

    cohort, watch = FakeCohort(["l1", "l2", "l3"], broken=["l2"]), Watch()
    state = play(cohort, 4, more={"max_failures": 2}, observer=watch)
    assert watch.aside == cohort.dismissed
    assert cohort.dismissed == {"l2": "it failed in 2 rounds in a row"}
    assert [len(r.failures) > 0 for r in state.history] == [True, True, False, False]
    assert play(FakeCohort(["l1", "l2"], broken=["l2"]), 4).history[-1].failures


def test_only_failures_in_a_row_count():
    failure = LearnerFailure(learner="a", stage="fit_model", reason="")

    def rounds(text):  # f: failed, o: fine, -: not asked
        record = play(FakeCohort(["l1"]), 1).history[0]
        return [
            replace(
                record, learners=("a",) if c == "o" else (), failures=(failure,) if c == "f" else ()
            )
            for c in text
        ]

    for text, aside in [("ff", 1), ("fof", 0), ("f-f", 1), ("fofof", 0), ("off", 1), ("ffo", 1)]:
        assert len(excluded(rounds(text), 2)) == aside, text
    assert excluded(rounds("fffff"), None) == []


def test_an_update_beyond_the_limit_is_clipped_or_refused():
    far = FakeCohort(["l1", "l6"])  # l6 adds 6 to each of three values: a norm of 10.4
    plain = play(far, 1).parameters[0][0]
    clipped = play(far, 1, more={"limit": NormLimit(2.0)}).parameters[0][0]
    assert clipped < plain
    (record,) = play(far, 1, more={"limit": NormLimit(2.0, refuse=True)}).history
    assert record.learners == ("l1",)
    assert "--max-update-norm" in record.failures[0].reason


def test_too_few_updates_end_the_run_by_name():
    with pytest.raises(FederationError, match=r"round 1 needs 2 updates.*l2: broken"):
        play(FakeCohort(["l1", "l2"], broken=["l2"]), min_fit=2)


def test_no_evaluation_is_no_failure_and_no_round_is_the_best():
    state = play(FakeCohort(["l1"]), fraction_evaluate=0.0)
    assert state.history[0].loss is None
    assert "--fraction-evaluate" in state.history[0].not_evaluated
    assert state.best is None


class Blind(FakeCohort):
    """Whose evaluations fail, in the first rounds."""

    def __init__(self, names, rounds):
        super().__init__(names)
        self.rounds = rounds

    async def _answers(self, tasks, *rest):
        async for answer in super()._answers(tasks, *rest):
            if isinstance(answer, Evaluation) and tasks[answer.learner].round <= self.rounds:
                reason = f"no labels in row {answer.learner[1:]}"
                yield LearnerFailure(learner=answer.learner, stage="evaluate_model", reason=reason)
            else:
                yield answer


def test_a_round_without_figures_says_why_and_is_never_the_best():
    names = [f"l{n}" for n in range(5)]
    state = play(Blind(names, 2), 3)
    assert state.best.round == 3
    why = "0 of 1 evaluations (--min-evaluate-clients): 5 learners (l0, l1, l2 and 2 more): no lab"
    assert state.history[0].not_evaluated.startswith(why)
    assert state.history[2].not_evaluated == ""
    assert play(Blind(names, 3), 3).best is None


def test_a_learner_that_fails_alike_twice_is_one_learner():
    twice = [LearnerFailure(learner="ann", stage="wire", reason="gone") for _ in range(2)]
    assert in_short(twice) == "ann: gone"


def test_equal_failures_are_one_whatever_numbers_stand_in_them():
    reasons = ["index 3 of 7", "out of memory", "index 12 of 9", "late", "shape", "index 0 of 1"]
    failures = [
        LearnerFailure(learner=f"l{n}", stage="fit_model", reason=reason, traceback=f"t{n}")
        for n, reason in enumerate(reasons)
    ]
    most, *others = alike(failures)
    assert str(most) == "3 learners (l0, l2, l5): index 3 of 7"
    assert most.traceback == "t0"
    assert [str(group) for group in others] == ["l1: out of memory", "l3: late", "l4: shape"]
    assert in_short(failures).endswith("l3: late; and 1 more for other reasons")


@pytest.mark.parametrize(
    ("loss", "examples", "accuracy"),
    [(np.nan, 2, 0.5), (np.inf, 2, 0.5), (1.0, 0, 0.5), (1.0, 2, np.nan), (1.0, -3, 0.5)],
)
def test_an_evaluation_without_meaning_is_that_learners_failure(loss, examples, accuracy):
    class Odd(FakeCohort):
        async def _answers(self, tasks, *rest):
            async for answer in super()._answers(tasks, *rest):
                if isinstance(answer, Evaluation) and answer.learner == "l2":
                    metrics = {"accuracy": accuracy}
                    yield replace(answer, loss=loss, examples=examples, metrics=metrics)
                else:
                    yield answer

    (record,) = play(Odd(["l1", "l2"]), 1).history
    assert np.isfinite(record.loss)
    assert record.examples == 2
    (failure,) = record.failures
    assert (failure.learner, failure.stage) == ("l2", "evaluate")
    assert "evaluation refused" in failure.reason


def test_an_observer_that_fails_costs_its_own_report_only(caplog):
    class Broken(Observer):
        def on_round(self, record, best):
            raise RuntimeError("no disk")

    class Counting(Observer):
        rounds = 0

        def on_round(self, record, best):
            self.rounds += 1

    counting = Counting()
    assert play(FakeCohort(["l1"]), observer=Observers([Broken(), counting])).round == 2
    assert counting.rounds == 2
    assert "no disk" in caplog.text


def test_the_history_tells_when_a_learner_trained_on_other_data_than_before():
    said = {"l1": ["aa", "aa", "bb", "aa"], "l2": ["cc", "", "cc", "cc"], "l3": [""] * 4}
    state = play(Collecting(said), rounds=4)
    assert [dict(record.new_data) for record in state.history] == [
        {"l1": {"data": "aa", "examples": 2}, "l2": {"data": "cc", "examples": 3}},
        {"l2": {"data": "", "examples": 3}},
        {"l1": {"data": "bb", "examples": 2}, "l2": {"data": "cc", "examples": 3}},
        {"l1": {"data": "aa", "examples": 2}},
    ]
    # A resumed training compares with what the history has.
    resumed = Collecting({name: ["aa"] for name in said})
    state = play(resumed, rounds=5, state=state)
    assert set(state.history[-1].new_data) == {"l2", "l3"}


def test_what_is_no_hash_is_not_recorded():
    said = {"l1": ["A" * 40], "l2": ["a" * 65], "l3": ["<script>"], "l4": ["0123456789abcdef"]}
    assert set(play(Collecting(said), rounds=1).history[0].new_data) == {"l4"}
