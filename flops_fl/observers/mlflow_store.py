"""Writes a training to MLflow under the names that FLOps uses.

The experiment is ``FLOps Project <id>``. Each round is a run ``FLOps FL round <n>``, a child of the
run of the whole training (`mlflow_training`). The best model is ``logged_model_artifact`` in its
round's run. Every delivery may be repeated, since runs are found by their tags. So a resumed
training delivers what an earlier process could not, because it was killed or had no server.
"""

from __future__ import annotations

import logging
import os
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flops_fl.core.observer import RunInfo
from flops_fl.observers.figures import round_figures
from flops_fl.observers.flavors import ARTIFACT, log_model
from flops_fl.observers.mlflow_local import make_store
from flops_fl.observers.mlflow_training import PARENT_TAG, RUN_TAG, TrainingRun
from flops_fl.process.temporary import temporary_folder
from flops_fl.text import without_secrets
from flops_fl.types import RoundRecord

log = logging.getLogger(__name__)

ROUND_TAG, MODEL_TAG = "flops.round", "flops.model"
_UNKNOWN = ("ENDPOINT_NOT_FOUND", "RESOURCE_DOES_NOT_EXIST", "FEATURE_DISABLED")


@dataclass(frozen=True, kw_only=True, slots=True)
class BestModel:
    """The model to log at the end, and what is needed to load it."""

    model: Any
    flavor: str | None
    requirements: Sequence[str]
    code_paths: Sequence[str]
    input_example: Any = None
    """What the model predicts from; None: not known."""
    register: str | None = None
    """NAME or NAME@ALIAS in the model registry; None: it stays unregistered."""


class RoundMissing(Exception):
    """The run of a round, in which something is to be stored, is not delivered yet."""


class MlflowStore:
    """A tracking server or a local store. For one thread; a call that failed may be repeated.

    Args:
        uri: A server, or ``sqlite:///...``.
        artifacts: Folder for the artifacts of a local store; None for a server.
        training: The training's own run.
    """

    def __init__(
        self, uri: str, artifacts: Path | None, run: RunInfo, training: TrainingRun
    ) -> None:
        configure()
        self.uri = uri
        self.experiment_id = ""
        self.run_ids: dict[int, str] = {}
        self.client: Any = None  # once the store is known
        self.training = training
        self._artifacts = artifacts
        self._making: Path | None = None
        self._run = run
        self._delivered: set[int] = set()
        self._begun: set[int] = set()  # rounds that may be stored in part: look before writing

    def connect(self) -> None:
        """Find or create the experiment and the training's run, and find out what it has."""
        if self.client is not None:
            return
        from mlflow import MlflowClient

        hush()
        if self._artifacts is not None:
            with temporary_folder("flops-fl-mlflow-") as self._making:
                make_store(self.uri, self._making)
        client = MlflowClient(tracking_uri=self.uri)
        name = f"FLOps Project {self._run.project_id}"
        found = client.get_experiment_by_name(name)
        if found is not None:
            self.experiment_id = found.experiment_id
        else:
            where = self._artifacts.resolve().as_uri() if self._artifacts else None
            self.experiment_id = client.create_experiment(name, artifact_location=where)
        self._look_up(client)
        self.training.open(client, self.experiment_id)
        self.client = client

    def abandon(self) -> None:
        """Remove a store that is being made: this process ends before it is. For any thread."""
        if self._making is not None:
            shutil.rmtree(self._making, ignore_errors=True)

    def deliver_training(self) -> None:
        """Deliver what has come together for the training's run."""
        self.connect()
        self.training.deliver()

    def log_results(self, files: Sequence[Path]) -> None:
        """Store a run's results with the training's run, over those of an earlier process."""
        self.connect()
        for file in files:
            if file.exists():
                self.client.log_artifact(self.training.run_id, str(file))

    def end(self) -> None:
        """End the training's run, as `TrainingRun.end` was told."""
        self.connect()
        self.training.close()

    def log_round(self, record: RoundRecord, load: Mapping[str, float]) -> None:
        """Write a round's run, or complete it. `load`: the machine's, at its end."""
        self.connect()
        number, stamp = record.round, int((record.ended or time.time()) * 1000)
        if number in self._delivered:
            return
        partly = number in self._begun or number in self.run_ids
        if number in self._begun and number not in self.run_ids:
            self._look_up(
                self.client, number
            )  # the server may have made the run, but its answer was lost
        self._begun.add(number)
        if number not in self.run_ids:
            self.run_ids[number] = self.create_run(record, stamp)
        run_id = self.run_ids[number]
        data = self.client.get_run(run_id).data if partly else None
        if not (data and data.params and data.metrics):  # a server may store one without the other
            self.log_figures(run_id, record, stamp, load)
        self.client.set_terminated(run_id, end_time=stamp)
        self._delivered.add(number)

    def create_run(self, record: RoundRecord, stamp: int) -> str:
        """Create a round's run; returns its id. `stamp`: of its end, in milliseconds."""
        of_round = {ROUND_TAG: str(record.round), PARENT_TAG: self.training.run_id}
        run = self.client.create_run(
            self.experiment_id,
            start_time=stamp - int(record.seconds * 1000),
            tags=self.training.tags | of_round,
            run_name=f"FLOps FL round {record.round}",
        )
        return str(run.info.run_id)

    def log_figures(
        self, run_id: str, record: RoundRecord, stamp: int, load: Mapping[str, float]
    ) -> None:
        """Log a round's metrics, and the options as parameters."""
        from mlflow.entities import Metric, Param

        figures = {**round_figures(record), **load}
        metrics = [Metric(key, value, stamp, record.round) for key, value in figures.items()]
        params = [Param(key, str(value)) for key, value in self._run.options.items()]
        self.client.log_batch(run_id, metrics=metrics, params=params)

    def log_model(self, round: int, best: BestModel) -> None:
        """Log the model in the run of its round, and name it in the training's.

        It may be large, so it is stored once.

        Raises:
            RoundMissing: there is no such run yet.
        """
        self.connect()
        run_id = self._run_of(round)
        run = self.client.get_run(run_id)
        if MODEL_TAG not in run.data.tags:
            self._log_model(run, best)
        for model in self._models(run_id):
            if str(model.status) == "READY":
                self.training.deliver_model(model.model_id, round, run_id)
            else:  # a format that could not be written
                self.client.delete_logged_model(model.model_id)

    def register(self, round: int, name: str) -> None:
        """Make the logged model of a round a version of a registered model, once.

        Args:
            name: ``NAME`` or ``NAME@ALIAS``; the alias is moved to the version.

        Raises:
            RoundMissing: the round has no run yet.
        """
        from mlflow import MlflowException

        self.connect()
        run_id, (name, _, alias) = self._run_of(round), name.partition("@")
        try:
            self.client.create_registered_model(name)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
        of_run = f"name = '{name}' and run_id = '{run_id}'"
        if not (versions := self.client.search_model_versions(of_run)):
            logged = next((model.model_id for model in self._models(run_id)), None)
            source = f"models:/{logged}" if logged else f"runs:/{run_id}/{ARTIFACT}"
            versions = [self.client.create_model_version(name, source, run_id, model_id=logged)]
        if alias:
            self.client.set_registered_model_alias(name, alias, versions[0].version)
        called = f" ({alias})" if alias else ""
        log.info(
            "the best model is %s version %s%s in MLflow's registry at %s",
            name, versions[0].version, called, without_secrets(self.uri),
        )  # fmt: skip

    def _run_of(self, round: int) -> str:
        if round not in self.run_ids:
            raise RoundMissing
        return self.run_ids[round]

    def _log_model(self, run: Any, best: BestModel) -> None:
        import mlflow

        run_id = run.info.run_id
        mlflow.set_tracking_uri(self.uri)
        for model in self._models(run_id):  # an earlier try was cut off
            self.client.delete_logged_model(model.model_id)
        with mlflow.start_run(run_id=run_id):
            log_model(
                best.model, best.flavor, best.requirements, best.code_paths, best.input_example
            )
            self.client.set_tag(run_id, MODEL_TAG, "logged")
        # MLflow has started the round's run once more; its round has ended before.
        self.client.set_terminated(run_id, end_time=run.info.end_time)

    def _models(self, run_id: str) -> Sequence[Any]:
        """The models of a run; none on servers before MLflow 3, which do not know of them."""
        from mlflow import MlflowException

        query = f"source_run_id = '{run_id}'"
        try:
            found: Sequence[Any] = self.client.search_logged_models([self.experiment_id], query)
        except MlflowException as error:
            if error.error_code not in _UNKNOWN:
                raise
            return []
        return found

    def _look_up(self, client: Any, round: int | None = None) -> None:
        """Find this training's runs in the store: all of them, or only that of `round`."""
        query, page = f"tags.`{RUN_TAG}` = '{self._run.run_id}'", None
        if round is not None:
            query += f" and tags.`{ROUND_TAG}` = '{round}'"
        while True:
            found = client.search_runs([self.experiment_id], query, page_token=page)
            for run in found:
                if ROUND_TAG not in run.data.tags:
                    self.training.found(run)
                    continue
                number = int(run.data.tags[ROUND_TAG])
                self.run_ids[number] = run.info.run_id
                if run.info.status == "FINISHED":
                    self._delivered.add(number)
            page = found.token
            if not page:
                return


def is_worth_another_try(error: Exception) -> bool:
    """Whether a call may succeed later: the server is away, rather than the request wrong."""
    if isinstance(error, OSError | RoundMissing):  # requests' errors are OSErrors
        return True
    code = getattr(error, "error_code", None)  # MlflowException's
    return code is not None and code not in ("INVALID_PARAMETER_VALUE", "BAD_REQUEST")


def hush() -> None:
    """Let MLflow log errors only. Call this after importing it, which sets log levels, too."""
    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.ERROR)


def configure() -> None:
    """Turn off MLflow's progress bars, links and retries. Call this before importing it."""
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
    # MLflow's retries would take minutes in one call; ours stop when time is up.
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")
    os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")
