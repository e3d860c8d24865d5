"""Models as ONNX: onnxruntime gives what the framework gives, on real data."""

from dataclasses import dataclass
from importlib.util import find_spec

import numpy as np
import pytest

import flops_fl
from flops_fl.errors import UsageError
from tests.conftest import EXAMPLES, ROOT
from tests.use.runs import REPOSITORIES, command, made

pytestmark = pytest.mark.filterwarnings("ignore:__array__ impl:DeprecationWarning")  # keras' arrays

BOOSTED = """
import lightgbm
import numpy as np
from flops_utils.ml_repo_building_blocks import load_dataset

class ModelManager:
    booster = None

    def set_model_data(self):
        rows = load_dataset().with_format("numpy")
        images = np.asarray(rows["image"][:], np.float64).reshape(len(rows), -1)
        self.test = images, np.asarray(rows["label"][:])

    def get_model(self):
        return self.booster

    def get_model_parameters(self):
        return [self.booster.model_to_string().encode() if self.booster else b""]

    def set_model_parameters(self, parameters):
        self.booster = lightgbm.Booster(model_str=parameters[0].decode())

    def fit_model(self):
        told = {"objective": "multiclass", "num_class": 10, "verbosity": -1}
        self.booster = lightgbm.train(told, lightgbm.Dataset(*self.test), 5)
        return len(self.test[1])

    def evaluate_model(self):
        raise NotImplementedError
"""

CONVOLUTION = EXAMPLES / "digits_pytorch"
CANCER = EXAMPLES / "cancer_xgboost"


def by_sklearn(manager):
    rows, _ = manager.test
    return rows, manager.get_model().predict_proba(rows)


def by_torch(manager):
    import torch

    rows, _ = next(iter(manager.test))
    with torch.no_grad():
        return rows.numpy(), manager.get_model().eval()(rows).numpy()


def by_keras(manager):
    rows, _ = manager.test
    return rows, manager.get_model().predict(rows, verbose=0)


def by_xgboost(manager):
    import xgboost

    rows, _ = manager.test
    chances = manager.get_model().predict(xgboost.DMatrix(rows))
    return rows, np.stack([1 - chances, chances], axis=1)


def by_lightgbm(manager):
    rows, _ = manager.test
    return rows, manager.get_model().predict(rows)


@dataclass(frozen=True, kw_only=True)
class Kind:
    """A repository, and a function from its manager to rows and what the framework predicts."""

    repo: object
    predicts: object
    converter: str
    outputs: int
    data: str = "digits"
    given: bool = False
    """Whether the command gets the data, since the model does not tell what it takes."""
    env: tuple = ()


KINDS = {
    "sklearn": Kind(
        repo=EXAMPLES / "mnist_sklearn",
        predicts=by_sklearn,
        converter="skl2onnx",
        outputs=2,
        data="digits_28",
    ),
    "torch": Kind(
        repo=CONVOLUTION, predicts=by_torch, converter="onnxscript", outputs=1, given=True
    ),
    "keras": Kind(
        repo=REPOSITORIES / "keras_digits",
        predicts=by_keras,
        converter="onnxscript",
        outputs=1,
        env=(("KERAS_BACKEND", "torch"),),
    ),
    "xgboost": Kind(
        repo=CANCER, predicts=by_xgboost, converter="onnxmltools", outputs=2, data="cancer"
    ),
    "lightgbm": Kind(
        repo=None,
        predicts=by_lightgbm,
        converter="onnxmltools",
        outputs=2,
    ),
}


@pytest.fixture
def cancer(tmp_path):
    from flops_fl.data.command import partition_command

    partition_command("breast-cancer", 1, "cancer", tmp_path / "cancer")
    return tmp_path / "cancer"


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", KINDS)
def test_onnxruntime_predicts_what_the_framework_predicts(
    name, run_cli, request, tmp_path, monkeypatch
):
    kind = KINDS[name]
    for package in ("onnxruntime", kind.converter, *(["torch"] if name == "keras" else [name])):
        pytest.importorskip(package, reason=f"{package} is not installed")
    for variable, value in kind.env:
        monkeypatch.setenv(variable, value)
    data = request.getfixturevalue(kind.data) / "part-0"
    (tmp_path / "model_manager.py").write_text(BOOSTED)
    run = made(tmp_path, kind.repo or tmp_path, data)
    given = ["--data", data] if kind.given else []
    out = tmp_path / "model.onnx"
    code, lines, err = run_cli("flops_fl", "export", run, *given, "--out", out)
    assert (code, err) == (0, "")

    loaded = {}
    exec(lines, loaded)
    (takes,) = loaded["model"].get_inputs()
    rows, expected = kind.predicts(flops_fl.load(run, data=data))
    got = loaded["model"].run(None, {takes.name: np.asarray(rows, np.float32)})
    assert len(got) == kind.outputs
    assert len(rows) > 30
    np.testing.assert_allclose(got[-1], expected, rtol=1e-4, atol=1e-5)
    assert f"# outputs = model.run(None, {{'{takes.name}': array}})" in lines
    assert f"# {takes.name}: float, any x " in lines


@pytest.mark.slow
def test_a_network_that_does_not_tell_its_input_needs_data_or_an_example(digits, run_cli, tmp_path):
    for package in ("torch", "onnxscript"):
        pytest.importorskip(package)
    run = made(tmp_path, CONVOLUTION, digits / "part-0")
    code, _, err = run_cli("flops_fl", "export", run, "--out", tmp_path / "model.onnx")
    assert code == 2
    assert err.endswith(
        "error: ONNX needs to know which input the model takes: give --data, to see it evaluate, "
        "or give the ModelManager an attribute input_example (docs/ml-repositories.md)\n"
    )
    repo = tmp_path / "repo"
    repo.mkdir()
    for file in CONVOLUTION.glob("*.py"):
        (repo / file.name).write_bytes(file.read_bytes())
    with (repo / "model_manager.py").open("a") as file:
        file.write("    input_example = torch.zeros((1, 1, 8, 8), dtype=torch.float64)\n")
    found = ["--repo", repo, "--out", tmp_path / "model.onnx"]
    code, lines, err = run_cli("flops_fl", "export", run, *found)
    assert (code, err) == (0, "")
    assert "# input: float, any x 1 x 8 x 8" in lines


@pytest.mark.slow
def test_keras_on_another_backend_is_told_the_one_that_can(run_cli, digits, tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_BACKEND", "torch")
    for package in ("jax", "torch", "keras", "onnxscript"):
        pytest.importorskip(package)
    run = made(tmp_path, REPOSITORIES / "keras_digits", digits / "part-0")
    out = ["--out", tmp_path / "model.onnx"]
    code, _, err = run_cli("flops_fl", "export", run, *out, env={"KERAS_BACKEND": "jax"})
    assert code == 2
    assert "needs keras' backend torch, this is jax: set KERAS_BACKEND=torch" in err


def test_without_the_converter_its_extra_is_named(digits_28, tmp_path, monkeypatch):
    pytest.importorskip("sklearn")
    run = made(tmp_path, EXAMPLES / "mnist_sklearn", digits_28 / "part-0")
    there = find_spec
    monkeypatch.setattr(
        "flops_fl.use.formats.find_spec", lambda name: None if name == "skl2onnx" else there(name)
    )
    with pytest.raises(UsageError, match=r"needs a package: pip install '\.\[onnx\]' in a clone"):
        command("export", run, "--out", tmp_path / "m.onnx")


def test_a_model_of_no_framework_has_no_onnx(digits, tmp_path):
    run = made(tmp_path, ROOT / "examples" / "numpy_minimal", digits / "part-0")
    with pytest.raises(UsageError, match=r"no framework that we know is written as \.npz$"):
        command("export", run, "--out", tmp_path / "m.onnx")
