"""State outside the parameters is equal on all learners, however hosted, seeded or restarted."""

import json

import pytest

from tests.conftest import ROOT

REPOSITORIES = ROOT / "tests" / "repositories"


def simulated(run_cli, repo, folder, *options):
    code, out, err = run_cli(
        "flops_fl", "simulate", repo, "--learners", 3, "--no-tracking", "--json",
        "--output", folder, *options,
    )  # fmt: skip
    assert code == 0, err
    return json.loads(out), err


@pytest.mark.slow
def test_frozen_weights_are_the_same_in_every_hosting(run_cli, tmp_path):
    frozen, results = REPOSITORIES / "frozen_numpy", []
    for count in (1, 3):
        options = ["--rounds", 5, "--processes", count, "--seed", 3]
        result, _ = simulated(run_cli, frozen, tmp_path / str(count), *options)
        results.append(result)
    assert len({result["model_sha256"] for result in results}) == 1
    assert results[0]["rounds"][-1]["accuracy"] > 0.9  # 0.81 where each has its own


@pytest.mark.slow
def test_a_learner_that_stays_or_starts_again_trains_as_a_fresh_one(processes, digits, tmp_path):
    frozen = REPOSITORIES / "frozen_numpy"
    learner = processes.learner(frozen, digits / "part-0", "only", "--stay")
    hashes = {}
    for turn, seed in enumerate((3, 0, 3)):
        options = ["--rounds", 2, "--seed", seed, "--fresh"]
        result = processes.result(processes.aggregator(frozen, *options))
        assert hashes.setdefault(seed, result["model_sha256"]) == result["model_sha256"], turn
    assert len(set(hashes.values())) == 2
    learner.kill()

    # Killed in the middle of a run, and started again: the run's seed comes with the task.
    aggregator = processes.aggregator(frozen, "--rounds", 4, "--seed", 3, "--fresh")
    learner = processes.learner(frozen, digits / "part-0", "only")
    whole = processes.result(aggregator)["model_sha256"]
    again = processes.aggregator(frozen, "--rounds", 2, "--seed", 3, "--fresh")
    processes.learner(frozen, digits / "part-0", "only")
    processes.finish(again)
    again = processes.aggregator(frozen, "--rounds", 4, "--seed", 3, "--resume")
    processes.learner(frozen, digits / "part-0", "only")
    assert processes.result(again)["model_sha256"] == whole


STRANGE = """
import os
from model_manager_plain import *
from model_manager_plain import ModelManager as Plain

class ModelManager(Plain):
    def __init__(self):
        super().__init__()
        if "STRANGE" in os.environ:
            with torch.no_grad():
                self.model[0].layer.weight += 1
"""


@pytest.mark.torch
def test_torch_trains_adapters_on_one_base_and_names_who_has_another(
    processes, digits, run_cli, tmp_path
):
    lora = REPOSITORIES / "lora_torch"
    for seed in (0, 3):
        options = ["--rounds", 10, "--seed", seed]
        result, err = simulated(run_cli, lora, tmp_path / f"lora-{seed}", *options)
        assert result["best"]["accuracy"] > 0.8  # central training: 0.88
        assert "--mismatch" not in err
        own = result["setups"]["aggregator"]["state"]
        assert [group["state"] for group in result["setups"]["learners"]] == [own]

    repo = tmp_path / "strange"
    repo.mkdir()
    for file in lora.glob("*.py"):
        name = "model_manager_plain.py" if file.name == "model_manager.py" else file.name
        (repo / name).write_text(file.read_text())
    (repo / "model_manager.py").write_text(STRANGE)
    aggregator = processes.aggregator(repo, "--rounds", 1, "--min-clients", 2, "--seed", 3)
    processes.learner(repo, digits / "part-0", "good")
    processes.learner(repo, digits / "part-1", "strange", env={"STRANGE": "1"})
    result = processes.result(aggregator)
    (line,) = [x for x in processes.stderr(aggregator).splitlines() if "--mismatch" in x]
    assert "warning: strange has state outside the parameters" in line
    good, strange = result["setups"]["learners"]
    assert {good["learners"][0], strange["learners"][0]} == {"good", "strange"}
    assert good["state"] != strange["state"]
