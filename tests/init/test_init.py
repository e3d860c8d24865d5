"""`flops-fl init` writes a repository that has nothing wrong and trains at once."""

import json
import subprocess
import sys
from importlib.util import find_spec

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from flops_fl import cli
from flops_fl.check.code import Code, check_code
from flops_fl.check.listing import check_listing
from flops_fl.errors import DataError, UsageError
from flops_fl.init.features import look_at
from tests.conftest import ROOT

FRAMEWORKS = ["numpy", "sklearn", "pytorch", "keras"]
TORCH = {"pytorch", "keras"}


@pytest.fixture
def init(tmp_path, capsys):
    """Write a repository; returns its folder and what was printed."""

    def init(*arguments, name="model"):
        assert cli.run(["init", str(tmp_path / name), *map(str, arguments)]) == 0
        return tmp_path / name, capsys.readouterr().out

    return init


def table(path, **columns):
    pq.write_table(pa.table(columns), path)
    return path


MIXED = {
    "size in cm": [1.5, None, 2.0, 8.0] * 10,
    "rooms": [1, 2, 2, 5] * 10,
    "city": ["a", "b", "b", "c"] * 10,
    "sold": [True, False, True, True] * 10,
    "kind": ["house", "flat", "flat", 'the "other" kind'] * 10,
}


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_what_it_writes_has_nothing_wrong_and_is_in_good_shape(init, framework, tmp_path):
    mixed = table(tmp_path / "x.parquet", **MIXED)
    many = {f"a column with a rather long name {n}": ["x"] for n in range(5)}
    wide = table(tmp_path / "w.parquet", label=[f"class {n}" for n in range(30)],
                 x=[1.0] * 30, **{name: value * 30 for name, value in many.items()})  # fmt: skip
    plain, _ = init("--framework", framework)
    given, _ = init("--framework", framework, "--data", mixed, "--label", "kind", name="given")
    long, _ = init("--framework", framework, "--data", wide, name="long")
    for repo in (plain, given, long):
        assert [*check_code(code := Code(repo)), *check_listing(code)] == []
        for task in (["check"], ["format", "--check"]):
            ruff = [sys.executable, "-m", "ruff", *task, "--isolated", "--line-length", "100"]
            subprocess.run([*ruff, str(repo)], check=True, capture_output=True)


@pytest.mark.parametrize(
    "framework",
    [
        pytest.param("numpy", marks=pytest.mark.slow),
        pytest.param("sklearn", marks=pytest.mark.slow),
        pytest.param("pytorch", marks=[pytest.mark.slow, pytest.mark.torch]),
        pytest.param("keras", marks=[pytest.mark.slow, pytest.mark.torch]),
    ],
)
def test_what_it_writes_passes_the_check_with_data(init, framework, tmp_path, digits, run_cli):
    if framework == "keras" and find_spec("keras") is None:
        pytest.skip("keras is not installed")
    data = digits / "part-0"
    if framework != "numpy":
        data = table(tmp_path / "x.parquet", **MIXED)
    label = ["--label", "kind"] if framework != "numpy" else []
    repo, out = init("--framework", framework, "--data", data, *label)
    assert ("not used: city\n" in out) is bool(label)
    assert f"next: flops-fl check {repo} --data {data}\n" in out
    code, out, err = run_cli("flops_fl", "check", repo, "--data", data, "--json")
    found = json.loads(out)
    assert (found["findings"], code) == ([], 0), err
    assert found["facts"]["repeatable"]


@pytest.mark.slow
def test_what_it_writes_trains_in_a_simulation(init, run_cli, tmp_path):
    repo, out = init("--framework", "sklearn")
    assert out.endswith(f"next: flops-fl simulate {repo} --learners 3 --data digits\n")
    code, out, err = run_cli(
        "flops_fl", "simulate", repo, "--learners", "3", "--data", "digits", "--json",
        "--no-tracking", "--output", tmp_path / "run",
    )  # fmt: skip
    assert code == 0, err
    assert json.loads(out)["best"]["accuracy"] > 0.85


def test_the_models_shapes_are_those_of_the_data(init, tmp_path, digits):
    mixed = table(tmp_path / "x.parquet", **MIXED)
    repo, _ = init("--framework", "numpy", "--data", mixed, "--label", "kind")
    text = (repo / "data_manager.py").read_text()
    assert """LABELS = ["flat", "house", 'the "other" kind']\n""" in text
    assert 'LEFT_OUT = {"kind", "city"}\nINPUTS = 3\n' in text
    assert "pillow" not in (repo / "conda.yaml").read_text()
    repo, _ = init("--framework", "numpy", "--data", digits / "part-0", name="images")
    text = (repo / "data_manager.py").read_text()
    assert 'COLUMN = "image"\nSHAPE = (8, 8)\nSCALE = 255\n' in text
    assert "LABELS = list(range(10))\n" in text
    assert "  - pillow>=10\n" in (repo / "conda.yaml").read_text()


def test_arrays_of_any_shape_are_columns_of_images(tmp_path):
    kinds = datasets.Features(
        {"pixels": datasets.Array3D((4, 5, 3), "uint8"), "label": datasets.ClassLabel(3)}
    )
    rows = {"pixels": [np.full((4, 5, 3), 9, np.uint8)] * 2, "label": [0, 1]}
    datasets.Dataset.from_dict(rows, kinds).to_parquet(tmp_path / "a.parquet")
    found = look_at(tmp_path / "a.parquet", None)
    assert (found.shape, found.scale, found.pictures) == ((4, 5, 3), 255, False)
    assert found.labels == range(3)  # two are in these data
    lists = table(tmp_path / "l.parquet", x=[[0.5, 2.0], [1.0, 3.0]], y=[7, 9])
    found = look_at(lists, None)
    assert (found.shape, found.scale, found.labels) == ((2,), 1, [7, 9])


@pytest.mark.parametrize(
    ("columns", "label", "said"),
    [
        ({"a": [1, 2], "b": [1, 2]}, None, "Say --label with one of a, b"),
        ({"a": [1, 2], "label": [0.5, 1.5]}, None, "such as 0.5, not classes, and init writes cl"),
        (
            {"a": [1, 2], "Preis €": [0.0, None]},
            "Preis €",
            "'Preis €' has numbers such as 0.0, not",
        ),
        (
            {"a": [*range(1001)], "label": [*range(1001)]},
            None,
            "has 1001 values .*classifiers only",
        ),
        ({"a": [1, 2], "label": [0, None]}, None, "expected at most 1000 classes"),
        ({"a": ["x", "y"], "label": [0, 1]}, None, "no column of numbers or images"),
        ({"a": [1, 2], "label": [0, 1]}, "b", "--label b: .* has the columns a, label"),
        ({"a": [[1], [1, 2]], "label": [0, 1]}, None, "the arrays in 'a' differ in shape"),
    ],
)
def test_data_for_which_there_is_no_model_are_named(tmp_path, columns, label, said):
    path = table(tmp_path / "x.parquet", **columns)
    with pytest.raises((UsageError, DataError), match=said):
        look_at(path, label)


def test_a_folder_that_has_something_in_it_is_left_alone(tmp_path):
    (tmp_path / "mine").write_text("mine")
    for place in (tmp_path, tmp_path / "mine", tmp_path / "mine" / "below"):
        with pytest.raises(UsageError, match="give another"):
            cli.run(["init", str(place), "--framework", "numpy"])
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]
    (tmp_path / "empty").mkdir()
    assert cli.run(["init", str(tmp_path / "empty"), "--framework", "numpy"]) == 0
    assert (ROOT / "flops_fl/init/templates/models/numpy.py").read_text() == (
        tmp_path / "empty" / "model_manager.py"
    ).read_text()
