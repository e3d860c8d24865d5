"""Real MLflow: a local store, a server that dies and comes back, a server that never existed."""

import threading
import time
from dataclasses import replace

import numpy as np
import pytest

from flops_fl.observers.flavors import example_for
from flops_fl.observers.mlflow import MlflowObserver
from flops_fl.observers.mlflow_local import local_store
from flops_fl.observers.mlflow_store import BestModel
from flops_fl.types import Best
from tests.conftest import wait_until
from tests.mlflow_server import free_port, kill, start_server
from tests.observers.mlflow_runs import (
    ENDED,
    RUN,
    curve,
    models_at,
    record,
    runs_at,
    sklearn_model,
    training_at,
)

pytestmark = pytest.mark.filterwarnings("ignore")  # MLflow's own, many


def test_rounds_and_the_best_model_are_in_a_local_store(tmp_path, monkeypatch):
    elsewhere = tmp_path / "cwd"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    observer = MlflowObserver(*local_store(tmp_path / "out"))
    (tmp_path / "out").mkdir()
    observer.on_start(RUN, [])
    said = {"server_loss": 0.25, "fit_metrics": {"steps": 3, "who": "a", "f1 (%)": 0.5}}
    observer.on_initial(replace(record(0, None), **said))
    for number, accuracy in ((1, 0.0), (2, 0.7), (3, 0.6)):
        best = Best(round=min(number, 2), loss=None, accuracy=accuracy)
        observer.on_round(replace(record(number, accuracy), **said), best)
    found = observer.close(2, sklearn_model())

    runs = {run.info.run_name: run for run in runs_at(observer.tracking_uri)}
    assert set(runs) == {f"FLOps FL round {number}" for number in range(4)}
    assert runs["FLOps FL round 0"].data.metrics["server/loss"] == 0.25
    assert all(run.info.status == "FINISHED" for run in runs.values())
    first = runs["FLOps FL round 1"].data
    assert first.metrics["accuracy"] == 0.0
    assert "loss" not in first.metrics
    assert (first.metrics["fit/steps"], first.metrics["fit/f1 ___"]) == (3.0, 0.5)
    assert first.params["fraction_evaluate"] == "0.5"
    assert any(name.startswith("system/") for name in first.metrics)
    assert found["run_id"] == runs["FLOps FL round 2"].info.run_id

    import mlflow

    mlflow.set_tracking_uri(observer.tracking_uri)
    loaded = mlflow.sklearn.load_model(f"runs:/{found['run_id']}/logged_model_artifact")
    assert loaded.predict(np.eye(4)).tolist() == [0, 1, 0, 1]
    assert list(elsewhere.iterdir()) == []

    # A run that is taken up again goes on in the same runs, and finds its best model there.
    again = MlflowObserver(*local_store(tmp_path / "out"))
    again.on_start(RUN, [record(1, 0.0), record(2, 0.7)])
    again.on_round(record(3), Best(round=2, loss=None, accuracy=0.7))
    again.on_end("completed", None)
    assert again.close(2, sklearn_model()) == found
    assert len(runs_at(observer.tracking_uri)) == 4
    assert len(models_at(observer)) == 1


@pytest.mark.slow
def test_what_a_killed_process_left_half_done_is_made_whole(tmp_path):
    """A round with a run and no figures, one with figures and no end, half a model, and one
    round that was never delivered."""
    (tmp_path / "out").mkdir()
    first = MlflowObserver(*local_store(tmp_path / "out"))
    first.on_start(RUN, [])
    first.close(0, None)
    first.store.create_run(record(1), 1)
    second = first.store.create_run(record(2), 1)
    first.store.log_figures(second, record(2, 0.9), 1, {})
    import mlflow

    mlflow.set_tracking_uri(first.tracking_uri)
    active = mlflow.start_run(run_id=second)
    first.store.client.create_logged_model(
        first.experiment_id, name="logged_model_artifact", source_run_id=active.info.run_id
    )
    mlflow.end_run("RUNNING")
    assert {run.info.status for run in runs_at(first.tracking_uri)} == {"RUNNING"}

    again = MlflowObserver(*local_store(tmp_path / "out"))
    again.on_start(RUN, [record(1), record(2, 0.9), record(3)])
    found = again.close(2, sklearn_model())
    assert found["run_id"] == second
    runs = runs_at(first.tracking_uri)
    assert sorted(run.data.tags["flops.round"] for run in runs) == ["1", "2", "3"]
    assert {run.info.status for run in runs} == {"FINISHED"}
    assert all(run.data.params and "accuracy" in run.data.metrics for run in runs)
    history = first.store.client.get_metric_history(second, "accuracy")
    assert [metric.value for metric in history] == [0.9]
    (model,) = models_at(first)
    assert mlflow.sklearn.load_model(model.model_uri).predict(np.eye(4)).tolist() == [0, 1, 0, 1]


@pytest.mark.slow
def test_an_interrupted_run_does_not_wait_for_a_server(tmp_path, monkeypatch):
    observer = MlflowObserver(f"http://127.0.0.1:{free_port()}")
    observer.on_start(RUN, [])
    observer.on_round(record(1), Best(round=1, loss=None, accuracy=0.5))
    started = time.monotonic()
    observer.close(1, None, interrupted=True)
    assert time.monotonic() - started < 5


def test_an_interrupted_local_store_is_not_called_a_server(monkeypatch, tmp_path, caplog):
    caplog.set_level("INFO")
    monkeypatch.setattr("flops_fl.observers.mlflow.INTERRUPTED_TIMEOUT", 0.1)
    held = threading.Event()
    monkeypatch.setattr(MlflowObserver, "_try", lambda observer, job: held.wait())
    observer = MlflowObserver(*local_store(tmp_path))
    observer.on_start(RUN, [])
    observer.close(0, None, interrupted=True)
    held.set()
    assert "--resume delivers them, too" in caplog.text
    assert "server is back" not in caplog.text


@pytest.mark.parametrize(("quiet", "lines"), [(0.0, 1), (60.0, 0)])
def test_a_wait_at_the_end_is_said_when_it_has_become_long(
    monkeypatch, tmp_path, caplog, quiet, lines
):
    caplog.set_level("INFO")
    monkeypatch.setattr("flops_fl.observers.mlflow.QUIET", quiet)
    monkeypatch.setattr(MlflowObserver, "_try", lambda observer, job: not time.sleep(0.4))
    observer = MlflowObserver(*local_store(tmp_path))
    observer.on_start(RUN, [])
    observer.close(0, None)
    assert caplog.text.count("on their way to MLflow") == lines


def test_an_object_of_no_framework_is_logged_too(tmp_path):
    (tmp_path / "out").mkdir()
    observer = MlflowObserver(*local_store(tmp_path / "out"))
    observer.on_start(RUN, [])
    observer.on_round(record(1), Best(round=1, loss=None, accuracy=0.5))
    plain = BestModel(model={"w": 3}, flavor=None, requirements=["numpy"], code_paths=[])
    found = observer.close(1, plain)
    import mlflow

    mlflow.set_tracking_uri(observer.tracking_uri)
    loaded = mlflow.pyfunc.load_model(f"runs:/{found['run_id']}/logged_model_artifact")
    assert loaded.unwrap_python_model().held == {"w": 3}


def test_the_best_model_has_a_signature_and_is_stored_once(tmp_path):
    (tmp_path / "out").mkdir()
    observer = MlflowObserver(*local_store(tmp_path / "out"))
    observer.on_start(RUN, [])
    observer.on_round(record(1), Best(round=1, loss=None, accuracy=0.5))
    observer.on_end("completed", None)
    best = sklearn_model()
    found = observer.close(1, replace(best, input_example=example_for(best.model)))
    (model,) = models_at(observer)
    assert model.source_run_id == found["run_id"]
    parent = training_at(observer)
    assert found["training_run_id"] == parent.info.run_id
    outputs = [(output.model_id, output.step) for output in parent.outputs.model_outputs]
    assert outputs == [(model.model_id, 1)]
    assert parent.data.tags["flops.best_run_id"] == found["run_id"]
    (child,) = runs_at(observer.tracking_uri)
    assert child.info.end_time == (ENDED + 1) * 1000  # not when its model was logged

    import mlflow

    mlflow.set_tracking_uri(observer.tracking_uri)
    info = mlflow.models.get_model_info(f"runs:/{found['run_id']}/logged_model_artifact")
    assert info.signature.inputs.to_dict()[0]["tensor-spec"]["shape"] == (-1, 4)
    assert info.signature.outputs is not None
    assert info.saved_input_example_info


@pytest.mark.slow
def test_what_a_server_missed_while_it_was_down_arrives_later(tmp_path):
    port = free_port()
    server = start_server(tmp_path, port)
    try:
        observer = MlflowObserver(f"http://127.0.0.1:{port}")
        observer.on_start(RUN, [])
        observer.on_round(record(1), Best(round=1, loss=None, accuracy=0.5))
        end = time.monotonic() + 30
        while 1 not in observer.store.run_ids and time.monotonic() < end:
            time.sleep(0.05)
        kill(server)
        started = time.monotonic()
        observer.on_round(record(2, 0.9), Best(round=2, loss=None, accuracy=0.9))
        observer.on_round(record(3), Best(round=2, loss=None, accuracy=0.9))
        assert time.monotonic() - started < 0.1  # training does not wait
        time.sleep(1)
        server = start_server(tmp_path, port)
        found = observer.close(2, sklearn_model())
        runs = runs_at(observer.tracking_uri)
        assert sorted(run.data.tags["flops.round"] for run in runs) == ["1", "2", "3"]
        assert {run.info.status for run in runs} == {"FINISHED"}
        assert curve(observer, "accuracy") == {1: 0.5, 2: 0.9, 3: 0.5}
        import mlflow

        mlflow.set_tracking_uri(observer.tracking_uri)
        mlflow.sklearn.load_model(f"runs:/{found['run_id']}/logged_model_artifact")
    finally:
        kill(server)


def test_a_server_that_is_never_there_costs_a_warning(caplog):
    observer = MlflowObserver(f"http://me:secret@127.0.0.1:{free_port()}", timeout=2.0)
    observer.on_start(RUN, [])
    observer.on_round(record(1), Best(round=1, loss=None, accuracy=0.5))
    started = time.monotonic()
    assert observer.close(1, None) is None
    assert time.monotonic() - started < 10
    assert "did not take" in caplog.text
    assert "secret" not in caplog.text + observer.tracking_uri
    assert caplog.text.count(f"{observer.tracking_uri}: Connection refused; trying again") == 1
    assert "(Connection refused). Run the same" in caplog.text


def test_a_server_that_is_killed_misses_the_model_and_its_name_too(tmp_path, caplog):
    class Away:
        def __getattr__(self, name):
            raise ConnectionRefusedError(111, "Connection refused")

    (tmp_path / "out").mkdir()
    observer = MlflowObserver(*local_store(tmp_path / "out"), timeout=1.0)
    observer.on_start(RUN, [])
    observer.on_round(record(1), Best(round=1, loss=None, accuracy=0.5))
    wait_until(lambda: 1 in observer.store._delivered)
    observer.store.client = observer.store.training._client = Away()
    for number in (2, 3):
        observer.on_round(record(number, 0.9), Best(round=2, loss=None, accuracy=0.9))
    observer.close(2, replace(sklearn_model(), register="digits@best"))
    assert "not logged" not in caplog.text
    assert caplog.text.count("Connection refused; trying again") == 1
    missing = "the model, the name digits@best, the training's end, 2 rounds from 2 on"
    assert f"{missing} (Connection refused). Run the same" in caplog.text


@pytest.mark.slow
def test_what_a_server_missed_that_was_killed_and_never_came_back_arrives_with_resume(
    tmp_path, caplog
):
    server, best = start_server(tmp_path, port := free_port()), Best(round=2, loss=0, accuracy=0.9)
    named = replace(sklearn_model(), register="digits")
    try:
        observer = MlflowObserver(f"http://127.0.0.1:{port}", timeout=2.0)
        observer.on_start(RUN, [])
        observer.on_round(record(1), Best(round=1, loss=None, accuracy=0.5))
        wait_until(lambda: 1 in observer.store._delivered)
        kill(server)
        observer.on_round(record(2, 0.9), best)
        observer.close(2, named)
        assert "not logged" not in caplog.text
        assert caplog.text.count("; trying again") == 1
        for missing in ("the model", "the name digits", "round 2"):
            assert missing in caplog.text.partition("did not take: ")[2]
        server = start_server(tmp_path, port)
        again = MlflowObserver(f"http://127.0.0.1:{port}")
        again.on_start(RUN, [record(1), record(2, 0.9)])
        found = again.close(2, named)
        (version,) = again.store.client.search_model_versions("name = 'digits'")
        assert version.run_id == found["run_id"]
    finally:
        kill(server)
