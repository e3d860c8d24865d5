"""Kills of any process of a simulation: nothing is left behind, and an error names the reason."""

import os
import re
import signal

import pytest

from tests.conftest import LIMIT, unstamped, wait_until

FORKING_FIT = """
import multiprocessing, os
from model_manager_plain import ModelManager as Plain

def hang(number):
    open(os.environ["MARK"] + f"-fit-{os.getpid()}", "w").close()
    sum(range(10**12))  # no signal's handler runs meanwhile

class ModelManager(Plain):
    def fit_model(self):
        open(os.environ["MARK"] + f"-fit-{os.getpid()}", "w").close()
        with multiprocessing.get_context("fork").Pool(1) as pool:
            pool.map(hang, [1])
"""


@pytest.mark.parametrize(
    ("killed", "code"),
    [
        ("host", 4),
        pytest.param("host, simulation", -signal.SIGKILL, marks=pytest.mark.slow),
        pytest.param("learner", 4, marks=pytest.mark.slow),
    ],
)
@pytest.mark.slow
def test_whichever_process_of_a_simulation_is_killed_the_others_end(
    processes, slow_repo, tmp_path, killed, code
):
    """Three processes of learners, and what their code has started."""
    (slow_repo / "model_manager.py").write_text(FORKING_FIT)
    options = ["--learners", 3, "--processes", 3, "--no-tracking", "--output", tmp_path / "run"]
    env = {"MARK": str(tmp_path / "x")}
    simulation = processes.start("flops_fl", "simulate", slow_repo, *options, env=env)
    wait_until(lambda: len(list(tmp_path.glob("x-fit-*"))) == 6, LIMIT)
    others = {int(path.name.split("-")[2]) for path in tmp_path.glob("x-fit-*")}
    learner = next(pid for pid in others if parent(pid) not in others)
    whom = {"simulation": simulation.pid, "host": parent(learner), "learner": learner}
    for name in killed.split(", "):
        os.kill(whom[name], signal.SIGKILL)
    assert simulation.wait(LIMIT) == code, processes.stderr(simulation)
    wait_until(lambda: not any(running(pid) for pid in [*others, whom["host"]]), LIMIT)
    if code > 0:
        who = {
            "host": "the process that hosts the learners",
            "learner": r"learner-\d was at work when its process",
        }
        last = unstamped(processes.stderr(simulation)).splitlines()[-1]
        assert re.match(f"error: {who[killed]} was killed by SIGKILL", last), last


@pytest.mark.slow
def test_a_simulation_that_is_killed_leaves_no_process_behind(processes, slow_repo, tmp_path):
    env = {"MARK": str(tmp_path / "x"), "FIT_SECONDS": "60"}
    options = ["--learners", 4, "--processes", 2, "--no-tracking", "--output", tmp_path / "run"]
    simulation = processes.start("flops_fl", "simulate", slow_repo, *options, env=env)
    wait_until(lambda: len(list(tmp_path.glob("x-fit-*"))) == 2, LIMIT)
    learners = {int(path.name.split("-")[2]) for path in tmp_path.glob("x-fit-*")}
    assert all(running(learner) for learner in learners)
    simulation.kill()
    wait_until(lambda: not any(running(learner) for learner in learners), LIMIT)


def parent(pid):
    with open(f"/proc/{pid}/stat") as stat:
        return int(stat.read().rpartition(")")[2].split()[1])


def running(pid):
    """Whether a process lives; one that only waits for its parent's attention does not."""
    try:
        with open(f"/proc/{pid}/stat") as stat:
            return stat.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
