"""Models that have no mean, in real processes."""

import json
import signal

import numpy as np
import pytest

from tests.conftest import EXAMPLES, ROOT

GROWING = ROOT / "tests" / "repositories" / "growing_numpy"
COLLECTING = ["--strategy", "collecting:Collecting"]


@pytest.mark.slow
def test_kills_of_both_actors_change_nothing(processes, run_cli, digits, tmp_path):
    """The strategy remembers arrays; updates beyond what is inlined are uploaded in pieces."""
    told = ["--rounds", 6, "--min-clients", 3, "--output", tmp_path / "run", *COLLECTING]

    def aggregator(fault=""):
        return processes.start(
            "tests.chaos.actor", "aggregator", GROWING, "--listen", processes.address, *told,
            "--no-tracking", "--json", "--resume", env={"FAULT": fault},
        )  # fmt: skip

    def learner(index, fault=""):
        return processes.start(
            "tests.chaos.actor", "learner", GROWING, "--aggregator", processes.address, "--data",
            digits / f"part-{index}", "--learner-id", f"learner-{index}", env={"FAULT": fault},
        )  # fmt: skip

    def killed(process):
        process.communicate(timeout=60)
        assert process.returncode == -signal.SIGKILL, processes.stderr(process)

    learners, broken = [learner(0), learner(1)], learner(2, "at-grant:2")
    killed(aggregator("in-upload:3"))
    second = aggregator("after-strategy:2")
    killed(broken)
    learners.append(learner(2))
    killed(second)
    killed(aggregator("after-arrays:2"))
    result = processes.result(aggregator())
    for process in learners:
        processes.finish(process)
    assert not any(record["failures"] for record in result["rounds"])
    code, out, err = run_cli(
        "flops_fl", "simulate", GROWING, "--learners", 3, "--rounds", 6, *COLLECTING,
        "--output", tmp_path / "calm", "--no-tracking", "--json",
    )  # fmt: skip
    assert code == 0, err
    assert result["model_sha256"] == json.loads(out)["model_sha256"]


@pytest.mark.slow
def test_the_example_comes_close_to_central_training(run_cli, tmp_path):
    pytest.importorskip("xgboost")
    repo = EXAMPLES / "cancer_xgboost"
    reached = {}
    for learners in (1, 5):
        code, out, err = run_cli(
            "flops_fl", "simulate", repo, "--data", "breast-cancer", "--learners", learners,
            "--rounds", 50, "--strategy", "FedXgbBagging", "--json",
            "--output", tmp_path / str(learners), "--no-tracking",
        )  # fmt: skip
        assert code == 0, err
        reached[learners] = json.loads(out)["rounds"][-1]["accuracy"]
    assert reached[5] > 0.93
    assert reached[5] > reached[1] - 0.03
    with np.load(tmp_path / "5" / "model-best.npz") as stored:
        forest = json.loads(stored["t0"].tobytes())
    model = forest["learner"]["gradient_booster"]["model"]
    assert len(model["trees"]) == 5 * json.loads(out)["best"]["round"]


@pytest.mark.slow
def test_what_does_not_go_together_is_refused_at_the_start(run_cli, tmp_path):
    options = ["--learners", 2, "--output", tmp_path / "run", "--no-tracking"]
    for more, said in (
        ([], "--strategy FedAvg needs a mean.*choose FedXgbBagging or FedXgbCyclic"),
        ([*COLLECTING, "--max-update-norm", 1], "--max-update-norm measures how far numbers move"),
    ):
        code, _, err = run_cli("flops_fl", "simulate", GROWING, *options, *more)
        assert code == 2
        assert_one_sentence(err, said)


def assert_one_sentence(err, said):
    import re

    assert err.count("\n") == 2, err  # what the data are, and the error
    assert re.search(said, err), err
