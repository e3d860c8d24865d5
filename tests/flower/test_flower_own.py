"""Strategies of the user's own, in modules of the repository."""

import json
import shutil
import sys

import numpy as np
import pytest

from flops_fl.errors import UsageError
from flops_fl.flower.building import strategy_for
from flops_fl.repo.contract import ManagedModel
from flops_fl.types import Update
from tests.conftest import NUMPY

MINE = """
import flwr.server.strategy as flower

class First(flower.FedAvg):
    def __init__(self, share=0.5, **options):
        super().__init__(**options)
        self.share = share

    def aggregate_fit(self, server_round, results, failures):
        from helper import scaled  # while the rounds go on
        return scaled(results[0][1].parameters, self.share), {}

def quarter():
    return First(share=0.25)
"""
HELPER = """
from flwr.common import ndarrays_to_parameters, parameters_to_ndarrays

def scaled(parameters, share):
    return ndarrays_to_parameters([share * array for array in parameters_to_ndarrays(parameters)])
"""


@pytest.fixture
def repo(tmp_path):
    folder = tmp_path / "repo"
    shutil.copytree(NUMPY, folder)
    (folder / "mine.py").write_text(MINE)
    (folder / "helper.py").write_text(HELPER)
    (folder / "broken.py").write_text("import nowhere_to_be_found\n")
    return folder


def test_a_module_of_the_repository_is_found_and_may_import_others_later(repo):
    model = ManagedModel(repo)
    for name, share in (("mine:First", 0.5), ("mine:quarter", 0.25)):
        strategy = strategy_for(model, name, {"min_fit_clients": 1}, seed=0)
        aggregation = strategy.aggregation(1)
        sent = [np.ones_like(array) for array in model.parameters()]
        aggregation.add(Update(learner="a", parameters=sent, examples=1))
        assert {float(array.max()) for array in aggregation.result(0)} == {share}
    assert not {"mine", "helper"} & set(sys.modules)  # and leaves no trace


def test_what_cannot_be_found_is_said_in_one_sentence(repo):
    model = ManagedModel(repo)
    for name, said in (
        ("nowhere:First", "there is no module 'nowhere' in the repository, and none is installed"),
        ("mine:Last", "module 'mine' has no class or function 'Last', expected MODULE:CLASS"),
        ("broken:First", r"ModuleNotFoundError in .*broken.py, line 1: .*nowhere_to_be_found"),
    ):
        with pytest.raises(UsageError, match=said):
            strategy_for(model, name, {}, seed=0)


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("return First", "gave the class First, expected an object of it"),
        ("raise SystemExit(0)", "mine:make cannot be built: SystemExit: 0"),
        ("raise Unsaid", "mine:make cannot be built: Unsaid: its text cannot be had"),
    ],
)
def test_a_function_that_makes_no_strategy_is_refused_in_one_sentence(repo, code, said):
    unsaid = "class Unsaid(Exception):\n    def __str__(self):\n        raise OSError"
    (repo / "mine.py").write_text(f"{MINE}\n{unsaid}\n\ndef make():\n    {code}\n")
    with pytest.raises(UsageError, match=said):
        strategy_for(ManagedModel(repo), "mine:make", {}, seed=0)


@pytest.mark.slow
def test_a_federation_uses_it(repo, run_cli, tmp_path):
    options = ["--learners", 2, "--rounds", 2, "--no-tracking", "--output", tmp_path / "run"]
    told = ["--strategy", "mine:First", "--strategy-option", "share=0.9"]
    code, _, err = run_cli("flops_fl", "simulate", repo, *options, *told)
    assert code == 0, err
    assert "strategy mine:First: share 0.9, min_available_clients 2" in err
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert result["options"]["share"] == 0.9
    code, _, err = run_cli(
        "flops_fl", "simulate", repo, *options, "--strategy", "mine:Last", "--fresh"
    )
    assert code == 2
    assert err.count("\n") == 2  # what the data are, and the error
