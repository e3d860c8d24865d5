"""A row that a fit cannot take: the failure is replayed, and the fit of the learner beside it."""

import json
import re
import textwrap

import pytest

from flops_fl.run.checkpoint import load_round
from flops_fl.types import parameters_sha256

PLANTED = """
import numpy as np
from plain import ModelManager as Plain


class ModelManager(Plain):
    def fit_model(self):
        drawn = np.random.permutation(200)[:20]
        if 13 in drawn:
            raise ValueError(f"row 13 is bad, drawn {drawn[:3]} first")
        return super().fit_model()
"""
OPTIONS = ["--rounds", 12, "--keep-rounds", "all", "--min-fit-clients", 1]


@pytest.fixture
def simulated(run_cli, tmp_path):
    """Train with two learners of one simulation; gives the log, and the data of a learner."""

    def train(repo):
        code, _, err = run_cli(
            "flops_fl", "simulate", repo, "--learners", 2, "--data", "digits", "--no-tracking",
            "--output", tmp_path / "run", *OPTIONS,
        )  # fmt: skip
        assert code == 0, err
        return err, lambda _: ["--data", "digits", "--learners", 2]

    return train


@pytest.fixture
def in_processes(processes, digits):
    """The same with a process for each learner."""

    def train(repo):
        aggregator = processes.aggregator(repo, "--min-available-clients", 2, *OPTIONS)
        data = {f"edge-{number}": digits / f"part-{number}" for number in range(2)}
        for name, folder in data.items():
            processes.learner(repo, folder, name)
        processes.result(aggregator)
        return processes.stderr(aggregator), lambda name: ["--data", data[name]]

    return train


@pytest.mark.slow
@pytest.mark.timeout(400)
@pytest.mark.parametrize("hosting", ["simulated", "in_processes"])
@pytest.mark.parametrize("framework", ["sklearn", pytest.param("pytorch", marks=pytest.mark.torch)])
def test_it_fails_again_and_the_other_has_the_same_bytes(
    framework, hosting, run_cli, tmp_path, request
):
    repo, run = tmp_path / "repo", tmp_path / "run"
    assert run_cli("flops_fl", "init", repo, "--framework", framework)[0] == 0
    (repo / "model_manager.py").rename(repo / "plain.py")
    (repo / "model_manager.py").write_text(PLANTED)
    log, data_of = request.getfixturevalue(hosting)(repo)

    rounds = json.loads((run / "result.json").read_text())["rounds"]
    record = next(each for each in rounds if len(each["failures"]) == 1)
    (failure,), (alone,) = record["failures"], record["learners"]
    words = ["replay", run, "--round", record["round"], "--learner"]
    code, _, err = run_cli("flops_fl", *words, failure["learner"], *data_of(failure["learner"]))
    assert code == 3
    (then,) = [each for each in tracebacks(log) if failure["reason"].endswith(each[-1])]
    assert tracebacks(err) == [then]

    code, out, err = run_cli("flops_fl", *words, alone, *data_of(alone), "--json")
    assert code == 0, err
    # It was the only update of its round, so the mean of the updates is this one.
    made = parameters_sha256(load_round(run, record["round"]).parameters)
    assert json.loads(out)["update_sha256"] == made


def tracebacks(text):
    """The user's tracebacks in a log, line by line, wherever they begin."""
    found = re.findall(r"^ *Traceback .*\n(?:^ +.*\n)+?^ *ValueError: .*$", text, re.MULTILINE)
    return [textwrap.dedent(each).splitlines() for each in found]
