"""MLflow tracking, in a thread of its own: a server that is down or slow costs a warning.

The names are those that FLOps uses: experiment ``FLOps Project <id>``, one run a round
called ``FLOps FL round <n>``, the best model as ``logged_model_artifact``. Only the
aggregator tracks; nothing of a single learner is logged.
"""

from __future__ import annotations

import importlib.util
import logging
import os
import queue
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flops_fl.core.observer import Observer, RunInfo
from flops_fl.errors import UsageError
from flops_fl.observers.flavors import log_model
from flops_fl.types import Best, Parameters, RoundRecord

log = logging.getLogger(__name__)

CLOSE_TIMEOUT = 60.0  # seconds at the end for what is not delivered yet
MAX_BACKOFF = 10.0  # seconds between tries


@dataclass(frozen=True, kw_only=True, slots=True)
class BestModel:
    """The model to log at the end, and what its consumer needs."""

    model: Any
    flavor: str | None
    requirements: Sequence[str]
    code_paths: Sequence[str]


class MlflowObserver(Observer):
    """Logs each round to MLflow, and the best model at the end.

    Args:
        tracking_uri: A server, or ``sqlite:///...``.
        artifacts: Folder for artifacts where no server keeps them.

    Raises:
        UsageError: MLflow is not installed.
    """

    def __init__(self, tracking_uri: str, artifacts: Path | None = None) -> None:
        if importlib.util.find_spec("mlflow") is None:
            raise UsageError(
                "MLflow is not installed: pip install 'flops-fl[aggregator]', or give --no-tracking"
            )
        _configure()
        self.tracking_uri = tracking_uri
        self.experiment_id = ""
        self._artifacts = artifacts
        self._run: RunInfo | None = None
        self._run_ids: dict[int, str] = {}
        self._best_round = 0
        self._jobs: queue.SimpleQueue[tuple[str, Callable[[], None]] | None] = queue.SimpleQueue()
        self._undelivered: list[str] = []
        self._deadline: float | None = None
        self._thread = threading.Thread(target=self._work, name="flops-mlflow", daemon=True)
        self._client: Any = None

    def on_start(self, run: RunInfo, history: Sequence[RoundRecord]) -> None:
        self._run = run
        self._thread.start()
        self._put("experiment", self._connect)

    def on_round(self, record: RoundRecord, parameters: Parameters, best: Best) -> None:
        self._best_round = best.round
        ended = time.time()
        self._put(f"round {record.round}", lambda: self._log_round(record, ended))

    def close(self, model: BestModel | None) -> dict[str, str] | None:
        """Log the best model and wait, bounded, for all that is under way.

        Returns:
            experiment_id, run_id of the best round, tracking_uri; None if nothing arrived.
        """
        if not self._thread.is_alive():
            return None
        if model is not None and self._best_round:
            self._put("model", lambda: self._log_model(model))
        self._jobs.put(None)
        self._deadline = time.monotonic() + CLOSE_TIMEOUT
        self._thread.join(CLOSE_TIMEOUT + 5.0)
        if self._thread.is_alive() or self._undelivered:
            missing = ", ".join(self._undelivered) or "the last entries"
            log.warning("MLflow at %s did not take: %s", self.tracking_uri, missing)
        run_id = self._run_ids.get(self._best_round)
        if run_id is None:
            return None
        return {
            "experiment_id": self.experiment_id,
            "run_id": run_id,
            "tracking_uri": self.tracking_uri,
        }

    # -- the thread ----------------------------------------------------------------------

    def _put(self, name: str, job: Callable[[], None]) -> None:
        self._jobs.put((name, job))

    def _work(self) -> None:
        while (item := self._jobs.get()) is not None:
            name, job = item
            if not self._try(name, job):
                self._undelivered.append(name)

    def _try(self, name: str, job: Callable[[], None]) -> bool:
        """Do it, again and again with back-off, until it is done or time is up."""
        wait = 0.5
        warned = False
        while True:
            try:
                job()
            except Exception as error:
                if not warned:
                    first_line = str(error).partition("\n")[0]
                    log.warning("MLflow (%s): %s; trying again", name, first_line[:200])
                    warned = True
                if self._deadline is not None and time.monotonic() + wait > self._deadline:
                    return False
                time.sleep(wait)
                wait = min(wait * 2, MAX_BACKOFF)
            else:
                return True

    def _connect(self) -> None:
        if self.experiment_id:
            return
        from mlflow import MlflowClient

        # After the import, which sets levels of its own.
        for name in ("mlflow", "alembic"):
            logging.getLogger(name).setLevel(logging.ERROR)
        assert self._run is not None
        client = MlflowClient(tracking_uri=self.tracking_uri)
        name = f"FLOps Project {self._run.project_id}"
        found = client.get_experiment_by_name(name)
        if found is not None:
            self.experiment_id = found.experiment_id
        else:
            where = self._artifacts.resolve().as_uri() if self._artifacts else None
            self.experiment_id = client.create_experiment(name, artifact_location=where)
        self._client = client

    def _log_round(self, record: RoundRecord, ended: float) -> None:
        self._connect()
        from mlflow.entities import Metric, Param

        assert self._run is not None
        run_id = self._run_ids.get(record.round) or self._find_or_create(record, ended)
        self._run_ids[record.round] = run_id
        stamp = int(ended * 1000)
        values = {"accuracy": record.accuracy, "loss": record.loss, **_system_metrics()}
        metrics = [
            Metric(key, value, stamp, record.round)
            for key, value in values.items()
            if value is not None
        ]
        params = [Param(key, str(value)) for key, value in self._run.options.items()]
        self._client.log_batch(run_id, metrics=metrics, params=params)
        self._client.set_terminated(run_id, end_time=stamp)

    def _find_or_create(self, record: RoundRecord, ended: float) -> str:
        """A try whose answer got lost, or a run before a resume, may have made it already."""
        assert self._run is not None
        tags = {"flops.run_id": self._run.run_id, "flops.round": str(record.round)}
        query = " and ".join(f"tags.`{key}` = '{value}'" for key, value in tags.items())
        found = self._client.search_runs([self.experiment_id], query, max_results=1)
        if found:
            return str(found[0].info.run_id)
        run = self._client.create_run(
            self.experiment_id,
            start_time=int((ended - record.seconds) * 1000),
            tags=tags,
            run_name=f"FLOps FL round {record.round}",
        )
        return str(run.info.run_id)

    def _log_model(self, best: BestModel) -> None:
        import mlflow

        run_id = self._run_ids.get(self._best_round)
        if run_id is None:
            raise RuntimeError(f"round {self._best_round} was not logged")
        mlflow.set_tracking_uri(self.tracking_uri)
        with mlflow.start_run(run_id=run_id):
            log_model(best.model, best.flavor, best.requirements, best.code_paths)


def local_store(folder: Path) -> tuple[str, Path]:
    """Tracking URI and artifact folder for a run without a server."""
    return f"sqlite:///{folder.resolve() / 'mlflow.db'}", folder / "mlartifacts"


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


def _configure() -> None:
    """Before MLflow is imported: no bars and links on the terminal, no retries of its own."""
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
    # Its own retries would take minutes in one call; ours know when time is up.
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")
    os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")
