"""`flops-fl check` as a person and a program see it, and repositories in which it finds nothing."""

import json
import re
from importlib.util import find_spec

import pytest

from tests.conftest import EXAMPLES, NUMPY, without_colour
from tests.seed import PAGE, seed_repository
from tests.trees import free_address


@pytest.fixture
def check(run_cli):
    """Run it; what it found, and its exit code."""

    def check(*arguments):
        code, out, err = run_cli("flops_fl", "check", *arguments, "--json")
        assert out, err
        return json.loads(out), code

    return check


@pytest.mark.parametrize(
    "name",
    [
        "numpy_minimal",
        pytest.param("numpy_fedprox", marks=pytest.mark.slow),
        pytest.param("mnist_sklearn", marks=pytest.mark.slow),
        pytest.param("digits_pytorch", marks=[pytest.mark.slow, pytest.mark.torch]),
    ],
)
def test_in_our_examples_it_finds_nothing(check, name, digits, digits_28):
    parts = digits_28 if "mnist" in name else digits
    found, code = check(EXAMPLES / name, "--data", parts / "part-0", "--data-tags", "digits")
    assert (found["findings"], code) == ([], 0)
    facts = found["facts"]
    assert facts["repeatable"]
    assert (facts["rows"], facts["samples"], facts["test_samples"]) == (599, 479, 120)
    assert facts["update_bytes"] == facts["model_bytes"] > 2000
    assert facts["peak_memory"] > 50e6
    assert facts["seconds"]["fit"] > 0


@pytest.mark.slow
@pytest.mark.skipif(find_spec("xgboost") is None, reason="xgboost is not installed")
def test_of_a_model_without_a_mean_it_says_what_strategy_it_needs(run_cli, tmp_path):
    from flops_fl.data.command import partition_command

    partition_command("breast-cancer", 3, "cells", tmp_path)
    code, out, err = run_cli(
        "flops_fl", "check", EXAMPLES / "cancer_xgboost", "--data", tmp_path / "part-0"
    )
    assert code == 0, err
    assert "strategy: one that knows this model, such as FedXgbBagging" in out
    assert out.endswith("0 errors, 0 warnings\n")


@pytest.mark.slow
@pytest.mark.skipif(not PAGE.exists(), reason="the contract's page lies beside a checkout only")
def test_of_the_contracts_page_it_says_only_what_is_so(check, tmp_path, digits_28):
    repo = seed_repository(tmp_path / "seed")
    found, code = check(repo, "--data", digits_28 / "part-0")
    said = [(each["rule"], each["file"], each["line"]) for each in found["findings"]]
    assert said == [
        ("pin-dropped", "conda.yml", 4),  # python=3.10.14
        ("conda-slip", "conda.yml", 6),  # - pip:
        ("never-used", "conda.yml", 9),  # packaging
        ("pin-dropped", "conda.yml", 10),  # psutil
        ("pin-dropped", "conda.yml", 11),  # pyyaml
    ]
    assert code == 0  # it trains
    assert found["facts"]["repeatable"]


BROKEN = """
class ModelManager:
    def __init__(self): print("[bold]hello from the user's code")
    def set_model_data(self): pass
    def get_model(self): pass
    def get_model_parameters(self): return self.weights
    def set_model_parameters(self, parameters): pass
    def fit_model(self, config=None): return 1
    def evaluate_model(self): return 1, 1, 1
"""


def test_a_person_gets_a_table_the_traceback_and_a_last_line(run_cli, tmp_path):
    (tmp_path / "model_manager.py").write_text(BROKEN)
    code, out, err = run_cli("flops_fl", "check", tmp_path, env={"COLUMNS": "200"})
    assert code == 3
    out = without_colour(out)
    assert re.search(
        r"error +│ model_manager.py:6 +│ ModelManager.get_model_parameters failed", out
    )
    assert re.search(r"warning +│ conda.yaml:1 +│ there is no dependency file", out)
    assert "AttributeError: 'ModelManager' object has no attribute 'weights'" in out
    assert out.endswith("1 error, 1 warning; nothing was fitted: give --data to try that\n")
    assert "[bold]hello" in err  # what the user's code prints is not the answer


@pytest.mark.slow
def test_a_repository_without_its_file_is_a_finding_and_wrong_data_are_not(check, tmp_path):
    found, code = check(tmp_path)
    assert code == 3
    (finding,) = found["findings"]
    assert (finding["rule"], finding["file"]) == ("no-file", "model_manager.py")
    found, code = check(NUMPY, "--data", tmp_path)
    assert code == 2
    assert found["error"].startswith("no data files at")


NEEDS_MU = """
import numpy as np
from data_manager import DataManager

class ModelManager:
    def __init__(self): self.weights = np.zeros(2)
    def set_model_data(self): self.rows = len(DataManager().get_data()[0][1])
    def get_model(self): return self
    def get_model_parameters(self): return [self.weights]
    def set_model_parameters(self, parameters): (self.weights,) = parameters
    def fit_model(self, config):
        self.weights += config["proximal_mu"]
        return self.rows
    def evaluate_model(self): return 0.0, 0.0, self.rows
"""


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_a_fit_receives_what_the_strategy_sends(check, tmp_path, digits):
    (tmp_path / "model_manager.py").write_text(NEEDS_MU)
    for name in ("data_manager.py", "conda.yaml"):
        (tmp_path / name).write_text((NUMPY / name).read_text())
    words = [tmp_path, "--data", digits / "part-0"]
    found, code = check(*words)
    assert [each["rule"] for each in found["findings"]] == ["fails-fit-model"]
    assert "KeyError: 'proximal_mu'" in found["findings"][0]["what"]
    assert found["findings"][0]["line"] == 12
    prox = ["--strategy", "FedProx", "--strategy-option", "proximal_mu=0.5"]
    found, code = check(*words, *prox)
    assert (found["findings"], code) == ([], 0)
    assert found["facts"]["config"] == {"proximal_mu": 0.5}
    found, code = check(*words, "--strategy", "FedProxy")
    assert code == 2
    assert "no strategy 'FedProxy'" in found["error"]
    found, code = check(NUMPY, "--data", digits / "part-0", *prox)
    assert code == 2
    assert "FedProx needs the learners' help" in found["error"]


@pytest.mark.slow
def test_a_data_server_that_is_away_is_no_finding(check):
    server = ["--data", f"grpc://{free_address()}", "--data-tags", "x", "--connect-timeout", "1"]
    found, code = check(NUMPY, *server)
    assert code == 4
    assert "no data server has answered at grpc://" in found["error"]


def test_what_user_code_writes_is_gone_afterwards(run_cli, tmp_path):
    repo, temporary = tmp_path / "repo", tmp_path / "temporary"
    for folder in (repo, temporary):
        folder.mkdir()
    text = BROKEN.replace("return self.weights", "open('note', 'w'); return [1.0]")
    (repo / "model_manager.py").write_text(text)
    code, _, err = run_cli("flops_fl", "check", repo, env={"TMPDIR": str(temporary)})
    assert code == 3, err  # it sets nothing
    assert not list(temporary.iterdir())
    assert [entry.name for entry in repo.iterdir()] == ["model_manager.py"]
