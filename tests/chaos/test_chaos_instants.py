"""Kills at the worst moments: at each step of a round, and of the writing that follows it."""

import signal
import time

import pytest

from tests.chaos import actor
from tests.chaos.federation import (
    LEARNERS,
    LONGEST,
    Federation,
    check_folder,
    check_tracking,
    figures,
)

pytestmark = pytest.mark.filterwarnings("ignore")  # MLflow's own, many
AT_THE_END = ["before-model", "after-model", "before-result", "after-result"]
IN_A_ROUND = [name for name in actor.AGGREGATORS if name not in AT_THE_END]
ROUNDS = 45


def await_kill(process, federation):
    process.wait(60)
    process.stdout.close()
    assert process.returncode == -signal.SIGKILL, federation.processes.stderr(process)


@pytest.mark.slow
@pytest.mark.timeout(LONGEST)
def test_an_aggregator_killed_at_any_step_loses_nothing(processes, slow_repo, digits, undisturbed):
    """Each step once, one after the other, in one run; MLflow's runs are whole, too."""
    expected = undisturbed(ROUNDS)
    run = Federation(
        processes, slow_repo, digits, ROUNDS, 0.1, env={"PIECES": "1"}, tracking=True, first=False
    )
    recovery = []
    for instant in (*IN_A_ROUND, *AT_THE_END):
        # Not the first call: some come with the start, before there is anything to lose.
        begin = time.monotonic()
        aggregator = run.start_aggregator(fault=f"{instant}:{1 if instant in AT_THE_END else 2}")
        await_kill(aggregator, run)
        recovery.append((time.monotonic() - begin, instant))
    run.aggregator = run.start_aggregator()
    result = run.result()
    print(f"{len(recovery)} instants; the longest from start to the next kill: {max(recovery)}")
    assert figures(result) == expected
    assert not any(entry["failures"] for entry in result["rounds"])
    assert run.fits() == ROUNDS * LEARNERS  # none in vain
    check_folder(run.folder, tracking=True)
    check_tracking(result)


@pytest.mark.slow
@pytest.mark.timeout(LONGEST)
def test_a_learner_killed_at_any_step_costs_at_most_its_fit(
    processes, slow_repo, digits, undisturbed
):
    expected = undisturbed(12)
    run = Federation(processes, slow_repo, digits, 12, 0.05, env={"PIECES": "1"}, second=False)
    for instant in actor.LEARNERS:
        await_kill(run.start_learner(1, fault=f"{instant}:1"), run)
    run.learners.append(run.start_learner(1))
    result = run.result()
    assert figures(result) == expected
    assert not any(entry["failures"] for entry in result["rounds"])
    assert 0 <= run.fits() - 12 * LEARNERS <= len(actor.LEARNERS)
    check_folder(run.folder)


@pytest.mark.slow
def test_clocks_that_jump_change_nothing(processes, slow_repo, digits, undisturbed):
    expected = undisturbed(4)
    run = Federation(processes, slow_repo, digits, 4, 0.1, env={"CLOCK": "1"}, tracking=True)
    result = run.result()
    assert figures(result) == expected
    assert not any(entry["failures"] for entry in result["rounds"])
    assert run.fits() == 4 * LEARNERS
    assert all(0 <= entry["seconds"] < 60 for entry in result["rounds"])
    check_tracking(result)
