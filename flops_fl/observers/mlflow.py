"""MLflow tracking, in a thread of its own: a server that is down or slow costs a warning.

The names are those that FLOps uses: experiment ``FLOps Project <id>``, one run a round
called ``FLOps FL round <n>``, the best model as ``logged_model_artifact``. Only the
aggregator tracks; nothing of a single learner is logged.

Whatever is delivered may be delivered again: runs are found by their tags. So a training that
is taken up again hands in what an earlier process could not, killed or without a server.
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
from flops_fl.extras import install
from flops_fl.observers.flavors import log_model
from flops_fl.types import Best, RoundRecord

log = logging.getLogger(__name__)

CLOSE_TIMEOUT = 60.0  # seconds at the end for what is not delivered yet
INTERRUPTED_TIMEOUT = 3.0  # the same, where somebody wants the process to end
MAX_BACKOFF = 10.0  # seconds between tries
RUN_TAG, ROUND_TAG, MODEL_TAG = "flops.run_id", "flops.round", "flops.model"


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
                f"MLflow is not installed: {install('aggregator')}, or give --no-tracking"
            )
        _configure()
        self.tracking_uri = tracking_uri
        self.experiment_id = ""
        self._artifacts = artifacts
        self._run: RunInfo | None = None
        self._run_ids: dict[int, str] = {}
        self._delivered: set[int] = set()
        self._jobs: queue.SimpleQueue[tuple[str, Callable[[], None]] | None] = queue.SimpleQueue()
        self._undelivered: list[str] = []
        self._deadline: float | None = None
        self._thread = threading.Thread(target=self._work, name="flops-mlflow", daemon=True)
        self._client: Any = None

    def on_start(self, run: RunInfo, history: Sequence[RoundRecord]) -> None:
        self._run = run
        self._thread.start()
        self._put("experiment", self._connect)
        for record in history:
            self._deliver(record)

    def on_round(self, record: RoundRecord, best: Best | None) -> None:
        self._deliver(record)

    def _deliver(self, record: RoundRecord) -> None:
        ended = time.time()
        self._put(f"round {record.round}", lambda: self._log_round(record, ended))

    def close(
        self, best_round: int, model: BestModel | None, *, interrupted: bool = False
    ) -> dict[str, str] | None:
        """Log the best round's model and wait, bounded, for all that is under way.

        Returns:
            experiment_id, run_id of the best round, tracking_uri; None if nothing arrived.
        """
        if not self._thread.is_alive():
            return None
        if model is not None:
            self._put("model", lambda: self._log_model(best_round, model))
        self._jobs.put(None)
        patience = INTERRUPTED_TIMEOUT if interrupted else CLOSE_TIMEOUT
        self._deadline = time.monotonic() + patience
        self._thread.join(patience)
        if self._thread.is_alive() or self._undelivered:
            missing = ", ".join(self._undelivered) or "the last entries"
            log.warning(
                "MLflow at %s did not take: %s. The same command with --resume delivers it "
                "when the server is back", self.tracking_uri, missing,
            )  # fmt: skip
        run_id = self._run_ids.get(best_round)
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
        if self._artifacts is not None:
            _make_store(self.tracking_uri)
        client = MlflowClient(tracking_uri=self.tracking_uri)
        name = f"FLOps Project {self._run.project_id}"
        found = client.get_experiment_by_name(name)
        if found is not None:
            self.experiment_id = found.experiment_id
        else:
            where = self._artifacts.resolve().as_uri() if self._artifacts else None
            self.experiment_id = client.create_experiment(name, artifact_location=where)
        self._client = client
        self._look_up()

    def _look_up(self, round: int | None = None) -> None:
        """Which rounds are there, or whether one is: from before a resume, or of a lost answer."""
        assert self._run is not None
        query, page = f"tags.`{RUN_TAG}` = '{self._run.run_id}'", None
        if round is not None:
            query += f" and tags.`{ROUND_TAG}` = '{round}'"
        while True:
            found = self._client.search_runs([self.experiment_id], query, page_token=page)
            for run in found:
                number = int(run.data.tags[ROUND_TAG])
                self._run_ids[number] = run.info.run_id
                if run.info.status == "FINISHED":
                    self._delivered.add(number)
            page = found.token
            if not page:
                return

    def _log_round(self, record: RoundRecord, ended: float) -> None:
        self._connect()
        if record.round in self._delivered:
            return
        run_id = self._run_ids.get(record.round) or self._create(record, ended)
        self._run_ids[record.round] = run_id
        stamp = int(ended * 1000)
        data = self._client.get_run(run_id).data
        if not (data.params and data.metrics):  # each goes in one piece, not both together
            self._log_figures(run_id, record, stamp)
        self._client.set_terminated(run_id, end_time=stamp)
        self._delivered.add(record.round)

    def _log_figures(self, run_id: str, record: RoundRecord, stamp: int) -> None:
        from mlflow.entities import Metric, Param

        assert self._run is not None
        values = {"accuracy": record.accuracy, "loss": record.loss, **_system_metrics()}
        metrics = [
            Metric(key, value, stamp, record.round)
            for key, value in values.items()
            if value is not None
        ]
        params = [Param(key, str(value)) for key, value in self._run.options.items()]
        self._client.log_batch(run_id, metrics=metrics, params=params)

    def _create(self, record: RoundRecord, ended: float) -> str:
        self._look_up(record.round)  # the answer to an earlier try may have got lost
        if record.round in self._run_ids:
            return self._run_ids[record.round]
        assert self._run is not None
        run = self._client.create_run(
            self.experiment_id,
            start_time=int((ended - record.seconds) * 1000),
            tags={RUN_TAG: self._run.run_id, ROUND_TAG: str(record.round)},
            run_name=f"FLOps FL round {record.round}",
        )
        return str(run.info.run_id)

    def _log_model(self, round: int, best: BestModel) -> None:
        self._connect()
        import mlflow

        run_id = self._run_ids.get(round)
        if run_id is None:
            raise RuntimeError(f"round {round} was not logged")
        if MODEL_TAG in self._client.get_run(run_id).data.tags:
            return
        mlflow.set_tracking_uri(self.tracking_uri)
        with suppress(mlflow.MlflowException):  # a server before MLflow 3 knows no such thing
            self._drop_models(run_id)
        with mlflow.start_run(run_id=run_id):
            log_model(best.model, best.flavor, best.requirements, best.code_paths)
            self._client.set_tag(run_id, MODEL_TAG, "logged")

    def _drop_models(self, run_id: str) -> None:
        """Of a try that was cut off, whatever is there of its model goes."""
        query = f"source_run_id = '{run_id}'"
        for model in self._client.search_logged_models([self.experiment_id], query):
            self._client.delete_logged_model(model.model_id)


def local_store(folder: Path) -> tuple[str, Path]:
    """Tracking URI and artifact folder for a run without a server."""
    return f"sqlite:///{folder.resolve() / 'mlflow.db'}", folder / "mlartifacts"


def _make_store(uri: str) -> None:
    """Make the database aside: one whose making is cut off cannot be used, nor made whole."""
    from mlflow import MlflowClient

    path = Path(uri.removeprefix("sqlite:///"))
    if path.exists():
        return
    aside = path.with_name(path.name + ".part")
    aside.unlink(missing_ok=True)
    MlflowClient(tracking_uri=f"sqlite:///{aside}").search_experiments(max_results=1)
    aside.replace(path)


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
