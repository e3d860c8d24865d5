"""Repositories as people write them, trained by real processes and by `simulate`: one model."""

import json

import pytest

from tests.conftest import ROOT

HERE = ROOT / "tests" / "repositories"
IDS = ["learner-0", "learner-1"]  # those of a simulation
REACHED = {
    "forking": 0.9,
    "workers_torch": 0.8,
}
"""What two rounds reach at least: 0.9 of what was seen."""


@pytest.fixture(scope="module")
def halves(tmp_path_factory):
    """The digits in two parts, cut as `simulate` cuts them."""
    from flops_fl.data.command import partition_command

    folder = tmp_path_factory.mktemp("halves")
    partition_command("digits", len(IDS), "digits", folder)
    return folder


def _needs(name):
    return [pytest.mark.torch] if name.endswith("_torch") else []


@pytest.mark.parametrize("name", [pytest.param(name, marks=_needs(name)) for name in REACHED])
def test_a_repository_trains_alike_in_both_hostings(name, processes, run_cli, halves, tmp_path):
    aggregator = processes.aggregator(HERE / name, "--rounds", 2, "--min-clients", len(IDS))
    learners = [
        processes.learner(HERE / name, halves / f"part-{index}", learner)
        for index, learner in enumerate(IDS)
    ]
    real = processes.result(aggregator)
    for learner in learners:
        processes.finish(learner)
        assert "Traceback" not in processes.stderr(learner)
    code, out, err = run_cli(
        "flops_fl", "simulate", HERE / name, "--learners", len(IDS), "--rounds", 2,
        "--output", tmp_path / "simulated", "--no-tracking", "--json",
    )  # fmt: skip
    assert code == 0, err
    for result in (real, json.loads(out)):
        assert not any(record["failures"] for record in result["rounds"]), result
        assert result["rounds"][-1]["accuracy"] >= REACHED[name]
    assert real["model_sha256"] == json.loads(out)["model_sha256"]
