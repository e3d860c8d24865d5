"""A run's model is loaded, evaluated and exported, after real runs and with commands as printed."""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from importlib.util import find_spec

import numpy as np
import pytest

import flops_fl
from flops_fl.errors import DataError, FlopsError, UsageError
from flops_fl.run.checkpoint import load_npz
from flops_fl.types import parameters_sha256
from flops_fl.use.formats import Home, write_model
from flops_fl.use.repository import built
from tests.conftest import EXAMPLES, LIMIT, NUMPY, ROOT
from tests.use.runs import REPOSITORIES, command, made, simulated


def test_the_evaluation_is_that_of_the_rounds_learners(run, digits):
    """`simulate` cuts its data as `data partition` does."""
    best = json.loads((run / "result.json").read_text())["best"]
    figures = []
    for index in range(3):
        data = ["--data", digits / f"part-{index}"]
        out = command("evaluate", run, *data, "--learner", f"learner-{index}", "--json")
        figures.append(json.loads(out))
    for name in ("loss", "accuracy"):
        parts = [figure[name] * figure["examples"] for figure in figures]
        assert sum(parts) / sum(f["examples"] for f in figures) == pytest.approx(best[name])
    assert figures[0]["model"] == "best"
    assert figures[0]["round"] == best["round"]
    out = command("evaluate", run, "--last", "--data", digits / "part-0")
    assert out.startswith("loss 0.")
    assert out.endswith(f"examples 120 (the last model of {run}, round 3)\n")


def test_load_gives_the_repositorys_own_object(run, digits):
    with flops_fl.load(run, data=digits / "part-0") as manager:
        best = load_npz(run / "model-best.npz")
        assert np.array_equal(manager.weights, best[0])
        assert manager.evaluate_model()[1] > 0.8
        assert manager.fit_model() == 479
        assert not np.array_equal(manager.weights, best[0])  # its own copy
    last = flops_fl.load(run, best=False)
    assert np.array_equal(last.weights, load_npz(run / "model-last.npz")[0])
    with pytest.raises(DataError, match="there is none"):
        last.set_model_data()


@pytest.mark.slow
def test_a_run_finds_its_repository_from_any_working_folder(run_cli, tmp_path, monkeypatch):
    """Also where a folder of that name is in it; and the run's folder may be anywhere."""
    shutil.copytree(NUMPY, tmp_path / "repo")
    options = ["--learners", 1, "--rounds", 1, "--no-tracking", "--output", "run"]
    code, _, err = run_cli("flops_fl", "simulate", "repo", *options, cwd=tmp_path)
    assert code == 0, err
    assert "data: digits (--data), iid\n" in err
    (tmp_path / "elsewhere" / "repo").mkdir(parents=True)
    run = (tmp_path / "run").rename(tmp_path / "elsewhere" / "run")
    monkeypatch.chdir(run.parent)
    assert np.array_equal(flops_fl.load("run").weights, load_npz(run / "model-best.npz")[0])
    (tmp_path / "repo").rename(tmp_path / "moved")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match="was 'repo', which is no folder here: say where it is"):
        flops_fl.load(run)
    assert flops_fl.load(run, repo="moved").bias.shape == (10,)


@dataclass(frozen=True, kw_only=True)
class Kind:
    """A repository of a framework, and the parameters as Python has them from what was loaded."""

    repo: object
    parameters: str
    formats: tuple[str, ...]
    needs: tuple[str, ...] = ()
    options: tuple = ()
    """Of a simulation, of those that are slow."""
    env: tuple = ()


KINDS = {
    "numpy": Kind(repo=NUMPY, parameters="parameters", formats=(".npz",)),
    "arrays that grow": Kind(
        repo=REPOSITORIES / "growing_numpy",
        parameters="[numpy.frombuffer(item, 'V1') for item in parameters]",
        formats=(".npz",),
    ),
    "bfloat16": Kind(
        repo=REPOSITORIES / "bfloat16",
        parameters="parameters",
        formats=(".npz",),
        needs=("ml_dtypes",),
    ),
    "sklearn": Kind(
        repo=EXAMPLES / "mnist_sklearn",
        parameters="[model.coef_, model.intercept_]",
        formats=(".joblib", ".skops"),
        needs=("sklearn", "skops"),
    ),
    "torch": Kind(
        repo=EXAMPLES / "digits_pytorch",
        parameters="[tensor.numpy() for tensor in model.state_dict().values()]",
        formats=(".pt", ".safetensors"),
        needs=("torch",),
    ),
    "keras": Kind(
        repo=REPOSITORIES / "keras_digits",
        parameters="model.get_weights()",
        formats=(".keras",),
        needs=("keras", "torch"),
        env=(("KERAS_BACKEND", "torch"),),
    ),
    "xgboost": Kind(
        repo=EXAMPLES / "cancer_xgboost",
        parameters="[numpy.frombuffer(model.save_raw('json'), 'V1')]",
        formats=(".ubj", ".json"),
        needs=("xgboost",),
        options=("--data", "breast-cancer", "--strategy", "FedXgbBagging"),
    ),
}
HEAVY = {"torch", "keras", "xgboost"}


def _marks(kind):
    marks = [pytest.mark.torch] if "torch" in kind.needs else []
    return [*marks, pytest.mark.slow] if HEAVY & {*kind.needs} else marks


@pytest.mark.timeout(300)
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # keras' arrays
@pytest.mark.parametrize(
    "kind", [pytest.param(kind, marks=_marks(kind), id=name) for name, kind in KINDS.items()]
)
@pytest.mark.slow
def test_the_lines_that_are_printed_load_what_was_written(
    kind, run_cli, digits, digits_28, tmp_path, monkeypatch
):
    for package in kind.needs:
        if find_spec(package) is None:
            pytest.skip(f"{package} is not installed")
    for name, value in kind.env:
        monkeypatch.setenv(name, value)
    if HEAVY & {*kind.needs}:
        told = ("--learners", 2, "--rounds", 2, *kind.options)
        run = simulated(run_cli, kind.repo, tmp_path / "run", *told)
    else:
        data = digits_28 if "sklearn" in kind.needs else digits
        run = made(tmp_path, kind.repo, data / "part-0")
    for suffix in kind.formats:
        if suffix == ".safetensors" and find_spec("safetensors") is None:
            with pytest.raises(
                UsageError, match="pip install safetensors, or take .pt, .onnx or .npz"
            ):
                command("export", run, "--out", tmp_path / "m.safetensors")
            continue
        assert exported(tmp_path, run, suffix, kind.parameters) == digest(run, kind)


def digest(run, kind=None):
    stored = load_npz(run / "model-best.npz")
    if kind is not None and "xgboost" in kind.needs:  # which writes JSON in its own words
        import xgboost

        booster = xgboost.Booster(model_file=bytearray(stored[0].tobytes()))
        stored = [np.frombuffer(booster.save_raw("json"), "V1")]
    return parameters_sha256(stored)


def exported(folder, run, suffix, parameters):
    """Export a model, run the lines in another process; the hash of what they load."""
    lines = command("export", run, "--out", folder / f"model{suffix}")
    check = "import numpy\nfrom flops_fl.types import parameters_sha256 as p\n"
    (folder / "load.py").write_text(f"{lines}\n{check}print(p({parameters}))\n")
    place = {"PYTHONPATH": f"{ROOT}:{os.environ.get('PYTHONPATH', '')}"}
    env = {name: value for name, value in os.environ.items() if name != "KERAS_BACKEND"} | place
    done = subprocess.run(
        [sys.executable, "load.py"],
        cwd=folder, capture_output=True, text=True, timeout=LIMIT, check=False, env=env,
    )  # fmt: skip
    assert done.returncode == 0, lines + done.stderr
    return done.stdout.split()[-1]


BOOSTED = """
import lightgbm
import numpy as np

class ModelManager:
    def __init__(self):
        rows = np.arange(40.0).reshape(20, 2)
        data = lightgbm.Dataset(rows, rows[:, 0] > 20)
        told = {"objective": "binary", "min_data_in_leaf": 2, "verbosity": -1}
        self.booster = lightgbm.train(told, data, 2)

    def get_model(self):
        return self.booster

    def get_model_parameters(self):
        return [self.booster.model_to_string().encode()]

    def set_model_parameters(self, parameters):
        self.booster = lightgbm.Booster(model_str=parameters[0].decode())

    def set_model_data(self):
        pass

    fit_model = evaluate_model = set_model_data
"""


@pytest.mark.slow
def test_lightgbm_has_its_own_text(tmp_path):
    lightgbm = pytest.importorskip("lightgbm")
    (tmp_path / "model_manager.py").write_text(BOOSTED)
    model = built(tmp_path, None)
    file = tmp_path / "m.txt"
    lines = write_model(Home(model, model.parameters(), ""), file, str(file))
    assert lines[-1] == f"model = lightgbm.Booster(model_file={str(file)!r})"
    loaded = lightgbm.Booster(model_file=str(file))
    assert loaded.predict([[39, 40]]) == model.model().predict([[39, 40]])


@pytest.mark.slow
def test_classes_of_the_repositorys_own_are_found_by_the_lines(tmp_path, digits_28):
    pytest.importorskip("sklearn")
    repo = tmp_path / "own"
    shutil.copytree(EXAMPLES / "mnist_sklearn", repo)
    manager = repo / "model_manager.py"
    imported = "from sklearn.linear_model import SGDClassifier"
    (repo / "own_parts.py").write_text(f"{imported}\n\nclass Own(SGDClassifier):\n    pass\n")
    text = manager.read_text().replace(imported, "from own_parts import Own as SGDClassifier")
    manager.write_text(text)
    run = made(tmp_path, repo, digits_28 / "part-0")
    for suffix in (".joblib", ".skops"):
        said = "[model.coef_, model.intercept_]"
        assert exported(tmp_path, run, suffix, said) == digest(run)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["export", "{run}", "--out", "{here}/m.pt"], "that we know is written as .npz"),
        (["export", "{run}", "--out", "{here}/there.npz"], "there.npz is there: choose another"),
        (["export", "{run}", "--out", "/proc/m.npz"], "--out /proc/m.npz cannot be written"),
        (["export", "{run}", "--best", "--last", "--out", "m.npz"], "--best and --last exclude"),
        (["export", "{here}", "--out", "m.npz"], "no run in {here} (result.json is not there"),
        (["evaluate", "{run}"], "there is none: give --data PATH"),
        (["evaluate", "{run}", "--repo", "nowhere"], "no ML repository at 'nowhere'"),
        (["export", "{run}", "--repo", "{other}", "--out", "m.npz"], "does not fit its repository"),
        (["evaluate", "{run}", "--data", "{here}/nothing"], "nothing does not exist"),
    ],
)  # fmt: skip
def test_what_cannot_be_done_is_said_in_a_sentence(run, tmp_path, words, said):
    (tmp_path / "there.npz").write_text("mine")
    places = {"run": run, "here": tmp_path, "other": EXAMPLES / "mnist_sklearn"}
    with pytest.raises(FlopsError) as caught:
        command(*(word.format(**places) for word in words))
    assert caught.value.exit_code == 2
    assert said.format(**places) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["there.npz"]
    assert (tmp_path / "there.npz").read_text() == "mine"


def test_force_overwrites(run, tmp_path):
    (tmp_path / "m.npz").write_text("mine")
    command("export", run, "--out", tmp_path / "m.npz", "--force")
    assert parameters_sha256(load_npz(tmp_path / "m.npz")) == digest(run)
