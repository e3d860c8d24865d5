"""What is written to MLflow, under the names that FLOps uses.

Experiment ``FLOps Project <id>``, one run a round called ``FLOps FL round <n>``, the best model as
``logged_model_artifact``. Whatever is delivered may be delivered again: runs are found by their
tags. So a training that is taken up again hands in what an earlier process could not, killed or
without a server.
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
    """The model to log at the end, and what its consumer needs."""

    model: Any
    flavor: str | None
    requirements: Sequence[str]
    code_paths: Sequence[str]


class MlflowStore:
    """A tracking server or a local store. One thread; whatever fails may be called again.

    Args:
        uri: A server, or ``sqlite:///...``.
        artifacts: Folder for artifacts where no server keeps them.
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
        self._begun: set[int] = set()  # rounds that may be there in part: look before writing

    def connect(self) -> None:
        """Find or make the experiment, and see which rounds are there already."""
        if self.experiment_id:
            return
        from mlflow import MlflowClient

        # After the import, which sets levels of its own.
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
        """One run for a round, whole in the end. `ended` is its Unix time."""
        self.connect()
        number, stamp = record.round, int(ended * 1000)
        if number in self._delivered:
            return
        partly = number in self._begun or number in self.run_ids
        if number in self._begun and number not in self.run_ids:
            self._look_up(number)  # the answer to an earlier try may have got lost
        self._begun.add(number)
        if number not in self.run_ids:
            self.run_ids[number] = self.create_run(record, ended)
        run_id = self.run_ids[number]
        data = self.client.get_run(run_id).data if partly else None
        if not (data and data.params and data.metrics):  # in one piece each, not both together
            self.log_figures(run_id, record, stamp)
        self.client.set_terminated(run_id, end_time=stamp)
        self._delivered.add(number)

    def create_run(self, record: RoundRecord, ended: float) -> str:
        """Begin a round's run; its id."""
        run = self.client.create_run(
            self.experiment_id,
            start_time=int((ended - record.seconds) * 1000),
            tags={RUN_TAG: self._run.run_id, ROUND_TAG: str(record.round)},
            run_name=f"FLOps FL round {record.round}",
        )
        return str(run.info.run_id)

    def log_figures(self, run_id: str, record: RoundRecord, stamp: int) -> None:
        """A round's metrics, the options as parameters."""
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
        """The model, in the run of its round, which must be there."""
        self.connect()
        import mlflow

        run_id = self.run_ids[round]
        if MODEL_TAG in self.client.get_run(run_id).data.tags:
            return
        mlflow.set_tracking_uri(self.uri)
        with suppress(mlflow.MlflowException):  # a server before MLflow 3 knows no such thing
            self._drop_models(run_id)
        with mlflow.start_run(run_id=run_id):
            log_model(best.model, best.flavor, best.requirements, best.code_paths)
            self.client.set_tag(run_id, MODEL_TAG, "logged")

    def _drop_models(self, run_id: str) -> None:
        """Of a try that was cut off, whatever is there of its model goes."""
        query = f"source_run_id = '{run_id}'"
        for model in self.client.search_logged_models([self.experiment_id], query):
            self.client.delete_logged_model(model.model_id)

    def _look_up(self, round: int | None = None) -> None:
        """Which rounds are there, or whether one is: from before a resume, or of a lost answer."""
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
    """Tracking URI and artifact folder for a run without a server."""
    return f"sqlite:///{folder.resolve() / 'mlflow.db'}", folder / "mlartifacts"


def is_worth_another_try(error: Exception) -> bool:
    """Whether what failed may succeed later: a server that is away, not a model that is no good."""
    if isinstance(error, OSError):  # requests' errors among them
        return True
    code = getattr(error, "error_code", None)  # MlflowException's
    return code is not None and code not in ("INVALID_PARAMETER_VALUE", "BAD_REQUEST")


def make_store(uri: str) -> None:
    """Make the database aside: one whose making is cut off cannot be used, nor made whole."""
    from mlflow import MlflowClient

    path = Path(uri.removeprefix("sqlite:///"))
    if path.exists():
        return
    aside = path.with_name(path.name + ".part")
    aside.unlink(missing_ok=True)
    MlflowClient(tracking_uri=f"sqlite:///{aside}").search_experiments(max_results=1)
    with closing(sqlite3.connect(aside)) as database:
        # It stays so. A commit then waits for the disk once, not three times.
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
    """The aggregator's machine and process, under the names that MLflow's own use."""
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
    """Before MLflow is imported: no bars and links on the terminal, no retries of its own."""
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
    # Its own retries would take minutes in one call; ours know when time is up.
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")
    os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")
