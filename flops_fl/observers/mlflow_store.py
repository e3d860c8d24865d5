"""Writes a training to MLflow under the names that FLOps uses.

The experiment is ``FLOps Project <id>``. Each round is a run ``FLOps FL round <n>``. The best model
is ``logged_model_artifact`` in its round's run. Every delivery may be repeated, since runs are
found by their tags. So a resumed training delivers what an earlier process could not, because it
was killed or had no server.
"""

from __future__ import annotations

import logging
import os
import re
import sqlite3
from collections.abc import Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flops_fl.core.observer import RunInfo
from flops_fl.observers.flavors import log_model
from flops_fl.types import RoundRecord

RUN_TAG, ROUND_TAG, MODEL_TAG = "flops.run_id", "flops.round", "flops.model"


@dataclass(frozen=True, kw_only=True, slots=True)
class BestModel:
    """The model to log at the end, and what is needed to load it."""

    model: Any
    flavor: str | None
    requirements: Sequence[str]
    code_paths: Sequence[str]


class MlflowStore:
    """A tracking server or a local store. For one thread; a call that failed may be repeated.

    Args:
        uri: A server, or ``sqlite:///...``.
        artifacts: Folder for the artifacts of a local store; None for a server.
    """

    def __init__(self, uri: str, artifacts: Path | None, run: RunInfo) -> None:
        configure()
        self.uri = uri
        self.experiment_id = ""
        self.run_ids: dict[int, str] = {}
        self.client: Any = None
        self._artifacts = artifacts
        self._run = run
        self._delivered: set[int] = set()
        self._begun: set[int] = set()  # rounds that may be stored in part: look before writing

    def connect(self) -> None:
        """Find or create the experiment, and find out which rounds it has already."""
        if self.experiment_id:
            return
        from mlflow import MlflowClient

        # Only now, because the import sets log levels, too.
        for name in ("mlflow", "alembic"):
            logging.getLogger(name).setLevel(logging.ERROR)
        if self._artifacts is not None:
            make_store(self.uri)
        client = MlflowClient(tracking_uri=self.uri)
        name = f"FLOps Project {self._run.project_id}"
        found = client.get_experiment_by_name(name)
        if found is not None:
            self.experiment_id = found.experiment_id
        else:
            where = self._artifacts.resolve().as_uri() if self._artifacts else None
            self.experiment_id = client.create_experiment(name, artifact_location=where)
        self.client = client
        self._look_up()

    def log_round(self, record: RoundRecord, ended: float) -> None:
        """Write a round's run, or complete it. `ended`: Unix time of the round's end."""
        self.connect()
        number, stamp = record.round, int(ended * 1000)
        if number in self._delivered:
            return
        partly = number in self._begun or number in self.run_ids
        if number in self._begun and number not in self.run_ids:
            self._look_up(number)  # the server may have made the run, but its answer was lost
        self._begun.add(number)
        if number not in self.run_ids:
            self.run_ids[number] = self.create_run(record, ended)
        run_id = self.run_ids[number]
        data = self.client.get_run(run_id).data if partly else None
        if not (data and data.params and data.metrics):  # a server may store one without the other
            self.log_figures(run_id, record, stamp)
        self.client.set_terminated(run_id, end_time=stamp)
        self._delivered.add(number)

    def create_run(self, record: RoundRecord, ended: float) -> str:
        """Create a round's run; returns its id."""
        run = self.client.create_run(
            self.experiment_id,
            start_time=int((ended - record.seconds) * 1000),
            tags={RUN_TAG: self._run.run_id, ROUND_TAG: str(record.round)},
            run_name=f"FLOps FL round {record.round}",
        )
        return str(run.info.run_id)

    def log_figures(self, run_id: str, record: RoundRecord, stamp: int) -> None:
        """Log a round's metrics, and the options as parameters."""
        from mlflow.entities import Metric, Param

        values = {
            "accuracy": record.accuracy,
            "loss": record.loss,
            **_strategys(record),
            **_system_metrics(),
        }
        metrics = [
            Metric(key, value, stamp, record.round)
            for key, value in values.items()
            if value is not None
        ]
        params = [Param(key, str(value)) for key, value in self._run.options.items()]
        self.client.log_batch(run_id, metrics=metrics, params=params)

    def log_model(self, round: int, best: BestModel) -> None:
        """Log the model in the run of its round, which must exist."""
        self.connect()
        import mlflow

        run_id = self.run_ids[round]
        if MODEL_TAG in self.client.get_run(run_id).data.tags:
            return
        mlflow.set_tracking_uri(self.uri)
        with suppress(mlflow.MlflowException):  # servers before MLflow 3 have no logged models
            self._drop_models(run_id)
        with mlflow.start_run(run_id=run_id):
            log_model(best.model, best.flavor, best.requirements, best.code_paths)
            self.client.set_tag(run_id, MODEL_TAG, "logged")

    def _drop_models(self, run_id: str) -> None:
        """Delete the incomplete model of an earlier try that was cut off."""
        query = f"source_run_id = '{run_id}'"
        for model in self.client.search_logged_models([self.experiment_id], query):
            self.client.delete_logged_model(model.model_id)

    def _look_up(self, round: int | None = None) -> None:
        """Find this training's runs in the store: all of them, or only that of `round`."""
        query, page = f"tags.`{RUN_TAG}` = '{self._run.run_id}'", None
        if round is not None:
            query += f" and tags.`{ROUND_TAG}` = '{round}'"
        while True:
            found = self.client.search_runs([self.experiment_id], query, page_token=page)
            for run in found:
                number = int(run.data.tags[ROUND_TAG])
                self.run_ids[number] = run.info.run_id
                if run.info.status == "FINISHED":
                    self._delivered.add(number)
            page = found.token
            if not page:
                return


def local_store(folder: Path) -> tuple[str, Path]:
    """Tracking URI and artifact folder of the local store in a run's folder."""
    return f"sqlite:///{folder.resolve() / 'mlflow.db'}", folder / "mlartifacts"


def is_worth_another_try(error: Exception) -> bool:
    """Whether a call may succeed later: the server is away, rather than the request wrong."""
    if isinstance(error, OSError):  # requests' errors among them
        return True
    code = getattr(error, "error_code", None)  # MlflowException's
    return code is not None and code not in ("INVALID_PARAMETER_VALUE", "BAD_REQUEST")


def make_store(uri: str) -> None:
    """Create the database under another name first, then rename it.

    MLflow can neither use nor repair a database whose creation was cut off.
    """
    from mlflow import MlflowClient

    path = Path(uri.removeprefix("sqlite:///"))
    if path.exists():
        return
    aside = path.with_name(path.name + ".part")
    aside.unlink(missing_ok=True)
    MlflowClient(tracking_uri=f"sqlite:///{aside}").search_experiments(max_results=1)
    with closing(sqlite3.connect(aside)) as database:
        # The mode is stored in the file. A commit then waits for the disk once, not three times.
        database.execute("PRAGMA journal_mode=WAL")
    for leftover in ("-wal", "-shm"):
        path.with_name(f"{aside.name}{leftover}").unlink(missing_ok=True)
    aside.replace(path)


def _strategys(record: RoundRecord) -> dict[str, float | None]:
    """What the strategy has to say, where that is numbers: ``server/loss``, ``fit/...``."""
    said = {"server": record.server_metrics, "fit": record.fit_metrics, "evaluate": record.metrics}
    numbers: dict[str, float | None] = {
        re.sub(r"[^\w./ -]", "_", f"{what}/{name}", flags=re.ASCII): float(value)
        for what, metrics in said.items()
        for name, value in metrics.items()
        if isinstance(value, int | float)
    }
    return {"server/loss": record.server_loss, **numbers}


def _system_metrics() -> dict[str, float]:
    """Load of the aggregator's machine and process, under the names of MLflow's own metrics."""
    with suppress(ImportError):
        import psutil

        memory = psutil.virtual_memory()
        return {
            "system/cpu_utilization_percentage": psutil.cpu_percent(),
            "system/system_memory_usage_megabytes": memory.used / 1e6,
            "system/system_memory_usage_percentage": memory.percent,
            "system/process_memory_megabytes": psutil.Process().memory_info().rss / 1e6,
        }
    return {}


def configure() -> None:
    """Turn off MLflow's progress bars, links and retries. Call this before importing it."""
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
    # MLflow's retries would take minutes in one call; ours stop when time is up.
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")
    os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")
