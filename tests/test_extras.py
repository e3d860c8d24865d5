"""Commands that people are told to type work as they stand."""

import re
import tomllib

import pytest

from flops_fl import extras
from flops_fl.actors.tracking import Tracking
from tests.conftest import NUMPY, ROOT

PAGES = [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("examples/**/*.md")]
SOURCES = [*(ROOT / "flops_fl").rglob("*.py"), *(ROOT / "examples").glob("*.py")]


def test_extras_are_installed_from_a_clone_and_are_there():
    """On no index there is a flops-fl: with that name pip finds nothing, or somebody else's."""
    known = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    told = set()
    for path in [*PAGES, *SOURCES]:
        text = path.read_text()
        assert not re.search(r"install '?flops-fl", text), path
        told |= set(re.findall(r"pip install '\.\[([\w,-]+)\]'", text))
        told |= set(re.findall(r"\binstall\('(\w+)'\)", text))
    assert told >= {"aggregator,data", "aggregator", "ui", "data", "images", "simulation"}
    assert {extra for extras in told for extra in extras.split(",")} <= set(known)


def test_a_program_that_is_not_on_the_path_is_told_with_its_folder(monkeypatch, tmp_path):
    monkeypatch.setattr(extras.sys, "executable", str(tmp_path / "python"))
    monkeypatch.setenv("PATH", str(tmp_path / "elsewhere"))
    assert extras.program("mlflow") == "mlflow"
    (tmp_path / "mlflow").touch(0o755)
    assert extras.program("mlflow") == str(tmp_path / "mlflow")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert extras.program("mlflow") == "mlflow"


class FakeMlflow:
    experiment_id = "1"
    tracking_uri = "sqlite:////a folder/mlflow.db"


@pytest.mark.parametrize("there", [True, False])
def test_the_pages_of_mlflow_need_its_whole_package(monkeypatch, there):
    monkeypatch.setattr("flops_fl.actors.tracking.is_installed", lambda package: there)
    tracking = Tracking.__new__(Tracking)
    tracking._mlflow = FakeMlflow()
    assert "mlflow ui --backend-store-uri 'sqlite:////a folder/mlflow.db'" in tracking.where
    assert ("pip install '.[ui]' in a clone" in tracking.where) is not there


def test_images_without_pillow_are_not_blamed_on_the_repository(run_cli, digits, tmp_path):
    (tmp_path / "sitecustomize.py").write_text("import sys\nsys.modules['PIL'] = None\n")
    options = ["--aggregator", "127.0.0.1:9", "--data", digits / "part-0"]
    code, _, stderr = run_cli("learner", NUMPY, *options, env={"PYTHONPATH": str(tmp_path)})
    assert code == 2
    *_, said = stderr.splitlines()
    assert said.endswith(
        "error: the data are images, which need Pillow: pip install pillow, or "
        "pip install '.[images]' in a clone of flops-fl"
    )
    assert "Traceback" not in stderr
