"""Strategies from Flower's documentation, as they are, for a native and a stock client at once."""

import json
import shutil

import numpy as np
import pytest

from tests.conftest import wait_for_port
from tests.peers.test_peers_flower import NUMPY, PEERS, stock
from tests.peers.test_peers_flower_app import app, parts  # noqa: F401 - a fixture

DATA = """
import numpy as np

def held_out():
    from sklearn.datasets import load_digits
    images, labels = load_digits(return_X_y=True)
    return (images / 16).astype(np.float32)[:200], labels[:200]
"""
TOLD = """
from model_manager_plain import ModelManager as Plain

class ModelManager(Plain):
    def fit_model(self, config):
        print("told", sorted(config.items()), flush=True)
        return super().fit_model()
"""


@pytest.fixture
def repo(tmp_path):
    folder = tmp_path / "repo"
    shutil.copytree(NUMPY, folder)
    (folder / "model_manager.py").rename(folder / "model_manager_plain.py")
    (folder / "model_manager.py").write_text(TOLD)
    (folder / "data.py").write_text(DATA)
    shutil.copy(PEERS / "docs_strategies.py", folder / "strategies.py")
    return folder


def play(processes, repo, digits, name, *options):
    """Two rounds; the aggregator, its result, and what the native learner said."""
    strategy = ["--strategy", f"strategies:{name}"]
    aggregator = processes.aggregator(repo, "--rounds", 2, "--min-clients", 2, *strategy, *options)
    wait_for_port(processes.address)
    learner = processes.learner(repo, digits / "part-0", "native")
    client = stock(processes, "works")
    result = processes.result(aggregator)
    assert client.wait(20) == 0
    for record in result["rounds"]:
        assert record["learners"] == ["flower-1", "native"]
        assert record["failures"] == []
    return aggregator, result, processes.finish(learner) + processes.stderr(learner)


@pytest.mark.slow
def test_metrics_of_all_clients_are_aggregated_and_config_reaches_them(processes, repo, digits):
    aggregator, result, said = play(processes, repo, digits, "averaging")
    for number, record in enumerate(result["rounds"], 1):
        assert record["fit_metrics"] == {"clients": 2, "mood": "good,-"}
        assert record["metrics"] == {"accuracy": pytest.approx(record["accuracy"])}
        assert f"('server_round', {number})" in said
    assert "fit: clients 2, mood good,-" in processes.stderr(aggregator)


@pytest.mark.slow
def test_a_class_may_aggregate_the_evaluations_itself(processes, repo, digits):
    _, result, _ = play(processes, repo, digits, "AggregateCustomMetricStrategy")
    for record in result["rounds"]:
        assert record["metrics"] == {"accuracy": record["accuracy"]}
        assert record["loss"] > 0


@pytest.mark.slow
def test_checkpoints_are_saved_and_found(processes, repo, digits):
    aggregator, _, _ = play(processes, repo, digits, "saving")
    said = processes.stderr(aggregator)
    (folder,) = {line.split()[-1] for line in said.splitlines() if "code has written" in line}
    last = np.load(processes.folder / "run" / "model-last.npz")
    with np.load(f"{folder}/round-2-weights.npz") as saved:
        for number in range(2):
            assert saved[f"arr_{number}"].tobytes() == last[f"t{number}"].tobytes()
    shutil.rmtree(folder)


@pytest.mark.slow
def test_a_model_is_evaluated_on_the_server(processes, repo, digits):
    """Round 0 too; the figures are the round's where no client is asked for any."""
    told = ("--fraction-evaluate", "0")
    aggregator, result, _ = play(processes, repo, digits, "centralised", *told)
    assert result["initial"]["loss"] == pytest.approx(np.log(10), rel=1e-5)
    for record in result["rounds"]:
        assert record["server"]["loss"] == record["loss"] > 0
        assert record["server"]["metrics"]["accuracy"] == record["accuracy"] > 0
    assert result["best"]["round"] in (1, 2)
    said = processes.stderr(aggregator)
    assert "round 0/2, the initial model" in said
    assert "server: loss 2.3026, accuracy" in said


@pytest.mark.slow
def test_the_same_under_flwr_run(app, repo, run_cli, tmp_path):  # noqa: F811
    export, play = app
    options = ["--learners", "2", "--rounds", "2", "--resize", "8", "--strategy"]
    for name in ("strategies:averaging", "strategies:centralised"):
        under_flower = play(export(*options, name, repo=str(repo)), parts(2))
        code, out, err = run_cli(
            "flops_fl", "simulate", repo, *options, name, "--no-tracking", "--json",
            "--output", tmp_path / name,
        )  # fmt: skip
        assert code == 0, err
        ours = json.loads(out)
        assert under_flower["model_sha256"] == ours["model_sha256"]
        assert under_flower["initial"] == ours["initial"]
        for key in ("loss", "accuracy", "metrics", "fit_metrics", "server"):
            assert [r[key] for r in under_flower["rounds"]] == [r[key] for r in ours["rounds"]]
        assert ours["rounds"][1]["metrics" if name == "strategies:averaging" else "server"]
