"""MLflow's store in an SQLite file: artifacts beside it, and nothing of one that was cut off."""

import threading
from pathlib import Path

import pytest

from flops_fl.observers.mlflow import MlflowObserver
from flops_fl.observers.mlflow_local import artifacts_of, local_store
from tests.conftest import NUMPY, ROOT
from tests.observers.mlflow_runs import RUN

pytestmark = pytest.mark.filterwarnings("ignore")  # MLflow's own, many


@pytest.mark.parametrize(
    ("uri", "folder"),
    [
        ("sqlite:////a/runs/x.db", "/a/runs/mlartifacts"),
        ("sqlite:///", None),
        ("sqlite:///:memory:", None),
        ("postgresql://host/name", None),
        ("http://host:5000", None),
    ],
)
def test_artifacts_lie_beside_a_local_database(uri, folder):
    assert artifacts_of(uri) == (folder and Path(folder))


@pytest.mark.slow
def test_a_database_that_is_named_keeps_its_artifacts_and_the_working_folder_stays_clean(
    run_cli, tmp_path
):
    (tmp_path / "cwd").mkdir()
    code, _, err = run_cli(
        "flops_fl", "simulate", NUMPY, "--learners", 2, "--rounds", 1, "--output",
        tmp_path / "run", "--tracking-uri", "sqlite:///../tracks/x.db",
        cwd=tmp_path / "cwd", env={"PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert code == 0, err
    assert list((tmp_path / "cwd").iterdir()) == []
    assert sorted(path.name for path in (tmp_path / "tracks").iterdir()) == ["mlartifacts", "x.db"]
    assert list((tmp_path / "tracks").rglob("MLmodel"))


def test_a_store_that_an_early_interruption_cuts_off_leaves_nothing(monkeypatch, tmp_path):
    from mlflow import MlflowClient

    making, closed = threading.Event(), threading.Event()
    make = MlflowClient.search_experiments

    def made(*arguments, **options):
        (client, *_) = arguments
        found = make(client, **options)
        making.set()
        assert closed.wait(60)
        return found

    monkeypatch.setattr(MlflowClient, "search_experiments", made)
    monkeypatch.setattr("flops_fl.observers.mlflow.INTERRUPTED_TIMEOUT", 0.1)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    for name in ("run", "temporary"):
        (tmp_path / name).mkdir()
    observer = MlflowObserver(*local_store(tmp_path / "run"))
    observer.on_start(RUN, [])
    assert making.wait(60)
    observer.close(0, None, interrupted=True)
    closed.set()
    observer._thread.join(60)
    assert not observer._thread.is_alive()
    assert [path.name for path in tmp_path.rglob("*")] in (
        ["run", "temporary"], ["temporary", "run"],
    )  # fmt: skip
