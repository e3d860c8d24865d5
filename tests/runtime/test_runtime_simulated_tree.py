"""Trees of clusters in one command: `simulate --clusters`."""

import io
import json
import math
import shutil

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from tests.conftest import EXAMPLES, NUMPY

FIVE = ("--learners", 5, "--rounds", 2, "--no-tracking")


def test_a_simulated_tree_gives_the_figures_of_the_flat_federation(run_cli, tmp_path):
    told = ["simulate", NUMPY, *FIVE, "--json"]
    code, out, said = run_cli("flops_fl", *told, "--clusters", 2, cwd=tmp_path)
    assert code == 0, said
    last = json.loads(out)["rounds"][-1]
    assert last["clusters"]["cluster-0"] == {"learners": 3, "failures": 0}
    assert "2 clusters of 5 learners" in said
    code, out, said = run_cli("flops_fl", *told, cwd=tmp_path)
    flat = json.loads(out)["rounds"][-1]
    assert last["accuracy"] == pytest.approx(flat["accuracy"], abs=1e-6)


@pytest.mark.slow
def test_a_simulated_tree_is_told_of_its_learners_failures(run_cli, tmp_path):
    repo = tmp_path / "repo"
    shutil.copytree(NUMPY, repo)
    with (repo / "model_manager.py").open("a") as code:
        code.write(BROKEN)
    code, _, said = run_cli("flops_fl", "simulate", repo, *FIVE, "--clusters", 2, cwd=tmp_path)
    assert code == 4
    assert "ZeroDivisionError" in said
    assert said.count("Traceback") <= 2  # one a cluster


BROKEN = """

class ModelManager(ModelManager):
    def fit_model(self):
        return 1 // 0
"""


@pytest.mark.slow
def test_a_tree_of_real_digits_is_judged_by_all_learners_data(run_cli, tmp_path):
    """Loss and accuracy at the root, calculated anew with nothing but NumPy and the data."""
    from flops_fl.data.partition import write_partitions
    from flops_fl.data.sources import load_source

    ids = [f"learner-{index}" for index in range(6)]
    code, out, said = run_cli(
        "flops_fl", "simulate", EXAMPLES / "mnist_sklearn", "--learners", 6, "--clusters", 2,
        "--cluster-rounds", 3, "--rounds", 2, "--resize", 28, "--partition", "dirichlet:1",
        "--no-tracking", "--json", "--output", tmp_path / "run",
    )  # fmt: skip
    assert code == 0, said
    assert (tmp_path / "run" / "partition.png").exists()
    assert ["learner", "rows", *"0123456789"] in [line.split()[2:] for line in said.splitlines()]
    last = json.loads(out)["rounds"][-1]
    whole = load_source("digits", resize=28)
    write_partitions(whole, ids, tmp_path / "parts", scheme="dirichlet:1", seed=0)
    with np.load(tmp_path / "run" / "model-last.npz") as model:
        weights, bias = model["t0"], model["t1"]
    losses, hits = [], []
    for name in ids:
        rows = pq.read_table(*(tmp_path / "parts").glob(f"{name}.*.parquet")).to_pylist()
        held = rows[len(rows) - math.ceil(len(rows) * 0.2) :]  # as the example cuts its test set
        images = np.array([pixels_of(row["image"]) for row in held]) / 255.0
        labels = np.array([row["label"] for row in held])
        # One sigmoid for each class, their sum made 1: what SGDClassifier gives.
        shares = 1 / (1 + np.exp(-(images @ weights.T + bias)))
        shares /= shares.sum(axis=1, keepdims=True)
        losses += (-np.log(shares[np.arange(len(labels)), labels])).tolist()
        hits += (shares.argmax(axis=1) == labels).tolist()
    assert last["examples"] == len(losses)
    assert last["loss"] == pytest.approx(np.mean(losses), rel=1e-9)
    assert last["accuracy"] == pytest.approx(np.mean(hits), rel=1e-12)
    assert last["accuracy"] > 0.7


def pixels_of(image):
    """A row's image, as the Parquet file has it."""
    return np.array(Image.open(io.BytesIO(image["bytes"])), dtype=np.float64).reshape(-1)
