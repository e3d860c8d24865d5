"""Our example repositories and those on the contract's page keep the contract."""

import json
from functools import partial

import numpy as np
import pytest

from flops_fl.data.folder import load_folder
from flops_fl.flower.client import ROUND, SEED, LearnerClient
from flops_fl.repo.contract import ManagedModel
from flops_fl.repo.dependencies import pip_requirements
from tests.conftest import EXAMPLES
from tests.seed import PAGE, seed_repository

ALL = [
    "numpy_minimal",
    "numpy_fedprox",
    "mnist_sklearn",
    pytest.param("digits_pytorch", marks=pytest.mark.torch),
]


@pytest.mark.parametrize("name", ALL)
def test_an_example_keeps_the_contract(name, digits, digits_28):
    parts = digits_28 if "mnist" in name else digits
    load = partial(load_folder, parts / "part-0", ["digits"])
    start = ManagedModel(EXAMPLES / name).parameters()
    fits = []
    for _ in range(2):
        model = ManagedModel(EXAMPLES / name, load)
        model.attach_data()
        client = LearnerClient(model, "a")
        fitted, examples, _ = client.fit(start, {SEED: 1, ROUND: 1})
        assert examples == 479
        fits.append(fitted)
        loss, samples, metrics = client.evaluate(fitted, {SEED: 1, ROUND: 1})
        assert samples == 120
        assert loss > 0
        assert metrics["accuracy"] > 0.5
    for one, other, before in zip(*fits, start, strict=True):
        assert (one.dtype, one.shape) == (before.dtype, before.shape)
        np.testing.assert_array_equal(one, other)
    assert any((a != b).any() for a, b in zip(fits[0], start, strict=True))
    assert pip_requirements(EXAMPLES / name)


@pytest.mark.skipif(not PAGE.exists(), reason="the contract's page lies beside a checkout only")
def test_the_pages_printed_files_run_word_for_word(tmp_path, processes, digits_28):
    repo = seed_repository(tmp_path / "seed")
    aggregator = processes.aggregator(repo, "--rounds", 3, "--min-clients", 3)
    learners = [processes.learner(repo, digits_28 / f"part-{n}", f"learner-{n}") for n in range(3)]
    result = processes.result(aggregator)
    for learner in learners:
        processes.finish(learner)
    assert result["best"]["accuracy"] > 0.85, json.dumps(result, indent=1)
    assert not any(r["failures"] for r in result["rounds"])
    assert "scikit-learn==1.4.2" in pip_requirements(repo)
