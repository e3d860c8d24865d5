"""A logged model, in an environment made from its own requirements.txt, where flops-fl is not."""

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import yaml

import flops_fl
from flops_fl.images.uv import program
from tests.conftest import EXAMPLES
from tests.images import standins

PREDICT = """
import json, sys
import numpy as np
from importlib.util import find_spec
from mlflow.pyfunc import load_model

assert find_spec("flops_fl") is None
rows = np.array(json.loads(sys.argv[2]), sys.argv[3])
print(json.dumps(np.asarray(load_model(sys.argv[1]).predict(rows)).tolist()))
"""


def by_torch(manager, rows):
    import torch

    manager.model.eval()
    with torch.no_grad():
        return manager.model(torch.from_numpy(rows)).numpy()


def by_itself(manager, rows):
    return manager.get_model().predict(rows)


def by_xgboost(manager, rows):
    import xgboost

    return manager.get_model().predict(xgboost.DMatrix(rows))


TORCH = pytest.mark.torch
CASES = [
    pytest.param("numpy_minimal", "digits", (64,), by_itself),
    pytest.param("numpy_fedprox", "digits", (64,), by_itself),
    pytest.param("mnist_sklearn", "digits --resize 28", (784,), by_itself),
    pytest.param("cancer_xgboost", "breast-cancer --strategy FedXgbBagging", (30,), by_xgboost),
    pytest.param("digits_pytorch", "digits", (1, 8, 8), by_torch, marks=TORCH),
    pytest.param("numpy", "digits", (64,), by_itself),
    pytest.param("sklearn", "digits", (64,), by_itself),
    pytest.param("pytorch", "digits", (64,), by_torch, marks=TORCH),
    pytest.param("keras", "digits", (64,), by_itself, marks=TORCH),
]


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # keras' own
@pytest.mark.parametrize(("name", "options", "shape", "output"), CASES)
def test_it_loads_and_predicts(name, options, shape, output, tmp_path):
    for package in ("xgboost", "keras"):  # not imported, since that needs keras' backend
        if name.endswith(package) and find_spec(package) is None:
            pytest.skip(f"{package} is not installed")
    repo = EXAMPLES / name
    if not repo.exists():
        repo = tmp_path / "repo"
        flops("init", repo, "--framework", name)
    words = ["--learners", 2, "--rounds", 1, "--output", tmp_path / "run", "--json", "--data"]
    found = json.loads(flops("simulate", repo, *words, *options.split()))
    (model,) = Path(tmp_path, "run", "mlartifacts").rglob("MLmodel")
    kind = kind_of(yaml.safe_load(model.read_text()))
    rows = np.random.default_rng(0).random((3, *shape)).astype(kind)

    python = fresh(tmp_path / "env", model.with_name("requirements.txt"))
    script = [python, "-c", PREDICT, model.parent, json.dumps(rows.tolist()), kind]
    out = subprocess.run(script, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert out.returncode == 0, out.stderr
    expected = output(flops_fl.load(tmp_path / "run"), rows)
    assert np.allclose(json.loads(out.stdout.splitlines()[-1]), expected, rtol=1e-5), found


def kind_of(document):
    """The type of numbers that an MLmodel file asks for; float32 if it names none."""
    if "signature" not in document:
        return "float32"
    (column,) = json.loads(document["signature"]["inputs"])
    return column["tensor-spec"]["dtype"]


def fresh(folder, requirements):
    """A new environment's Python, with these requirements and no more; torch is without CUDA."""
    where, index, cpu = ["--python", folder / "bin" / "python"], None, []
    if "torch" in requirements.read_text():
        index = standins.torch_index(folder.parent)
        cpu = ["--torch-backend", "cpu"] if index is None else []
    subprocess.run([program(), "venv", "-q", "--python", sys.executable, folder], check=True)
    install = [program(), "pip", "install", "-q", *where, *cpu, "-r", requirements]
    subprocess.run(install, check=True, env={**os.environ, **(index or {})})
    return folder / "bin" / "python"


def flops(*words):
    """What a command of flops-fl has printed."""
    command = [sys.executable, "-m", "flops_fl", *map(str, words)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout
