"""Runs in MLflow's store: made by our observer, read by MLflow's client."""

from dataclasses import replace

import numpy as np

from flops_fl.core.observer import RunInfo
from flops_fl.observers.mlflow import MlflowObserver
from flops_fl.observers.mlflow_local import local_store
from flops_fl.observers.mlflow_store import BestModel
from flops_fl.types import RoundRecord

ENDED = 1_700_000_000.0  # of round 0, in Unix time
RUN = RunInfo(
    project_id="p",
    run_id="r1",
    repo_source="https://host/repo.git",
    repo_commit="abc+2",
    strategy="FedAvg",
    seed=1,
    rounds=3,
    options={
        "min_available_clients": 1,
        "min_fit_clients": 1,
        "min_evaluate_clients": 1,
        "fraction_fit": 1.0,
        "fraction_evaluate": 0.5,
    },
)


def record(number, accuracy=0.5):
    return RoundRecord(
        round=number, seconds=1.0, fit_seconds=1.0, evaluate_seconds=0.5, loss=None,
        accuracy=accuracy, examples=9, bytes_down=1, bytes_up=2, learners=("a",),
        ended=ENDED + number,
    )  # fmt: skip


def sklearn_model():
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression().fit(np.eye(4), [0, 1, 0, 1])
    return BestModel(model=model, flavor=None, requirements=["scikit-learn"], code_paths=[])


def runs_at(uri):
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=uri)
    experiment = client.get_experiment_by_name("FLOps Project p")
    runs = client.search_runs([experiment.experiment_id], order_by=["start_time"])
    return [run for run in runs if "flops.round" in run.data.tags]


def training_at(observer):
    """The only run that is not a round's."""
    client = observer.store.client
    runs = client.search_runs([observer.experiment_id])
    (run,) = [run for run in runs if "flops.round" not in run.data.tags]
    return run


def curve(observer, name):
    """A metric of the training's run: value by step."""
    history = observer.store.client.get_metric_history(training_at(observer).info.run_id, name)
    assert len({point.step for point in history}) == len(history)  # each once
    return {point.step: point.value for point in history}


def models_at(observer):
    return observer.store.client.search_logged_models([observer.experiment_id])


def finished(folder, rounds, history=(), *, run=RUN, status="completed", **options):
    """A process that has played `rounds` after `history`."""
    folder.mkdir(exist_ok=True)
    observer = MlflowObserver(*local_store(folder), **options)
    observer.on_start(run, history)
    for each in rounds:
        observer.on_round(each, None)
    observer.on_end(status, None)
    observer.close(1, None, [folder / "result.json", folder / "none.png"])
    return observer


def evaluated(number, accuracy):
    return replace(record(number, accuracy), loss=1 - accuracy, metrics={"f1": accuracy})
