"""MLflow tracking on its own thread, so that a slow or absent server never holds up training.

Only the aggregator tracks, and it logs nothing about single learners. `mlflow_store` says what is
written and under which names.
"""

from __future__ import annotations

import importlib.util
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from flops_fl.core.observer import Observer, RunInfo
from flops_fl.errors import UsageError
from flops_fl.extras import install
from flops_fl.limits import TRACKING_TIMEOUT
from flops_fl.observers.mlflow_store import BestModel, MlflowStore, is_worth_another_try
from flops_fl.text import sentence
from flops_fl.types import Best, RoundRecord

log = logging.getLogger(__name__)

INTERRUPTED_TIMEOUT = 3.0  # seconds to deliver the rest if somebody has interrupted the process
MAX_BACKOFF = 10.0  # seconds between tries
QUIET = 2.0  # seconds after which a wait at the end is shown


@dataclass(slots=True)
class _Job:
    name: str
    do: Callable[[], None]
    round: int = 0


class MlflowObserver(Observer):
    """Logs each round to MLflow, and the best model at the end.

    Args:
        tracking_uri: A server, or ``sqlite:///...``.
        artifacts: Folder for the artifacts of a local store. The end of a run waits until a local
            store has taken everything.
        timeout: Seconds that a server has at the end to take the rest.

    Raises:
        UsageError: MLflow is not installed.
    """

    def __init__(
        self,
        tracking_uri: str,
        artifacts: Path | None = None,
        timeout: float = TRACKING_TIMEOUT,
    ) -> None:
        if importlib.util.find_spec("mlflow") is None:
            raise UsageError(
                f"MLflow is not installed: {install('aggregator')}, or give --no-tracking"
            )
        self.tracking_uri = tracking_uri
        self._timeout = timeout
        self.store: MlflowStore | None = None
        self._artifacts = artifacts
        self._jobs: deque[_Job | None] = deque()
        self._ready = threading.Condition()
        self._undelivered: list[str] = []
        self._deadline: float | None = None
        self._patient = False
        self._thread = threading.Thread(target=self._work, name="flops-mlflow", daemon=True)

    @property
    def experiment_id(self) -> str:
        """The MLflow experiment of the runs; empty until it is known."""
        return self.store.experiment_id if self.store else ""

    def on_start(self, run: RunInfo, history: Sequence[RoundRecord]) -> None:
        self.store = MlflowStore(self.tracking_uri, self._artifacts, run)
        self._thread.start()
        self._put(_Job("experiment", self.store.connect))
        for record in history:
            self._deliver(record)

    def on_initial(self, record: RoundRecord) -> None:
        self._deliver(record)

    def on_round(self, record: RoundRecord, best: Best | None) -> None:
        self._deliver(record)

    def _deliver(self, record: RoundRecord) -> None:
        assert self.store is not None
        log_round = partial(self.store.log_round, record, time.time())
        self._put(_Job(f"round {record.round}", log_round, record.round))

    def close(
        self, best_round: int, model: BestModel | None, *, interrupted: bool = False
    ) -> dict[str, str] | None:
        """Log the best round's model and wait until all entries are delivered.

        The wait for a server is bounded. The model goes before waiting rounds, since people need
        it most.

        Returns:
            experiment_id, run_id of the best round and tracking_uri; None if that run is missing.
        """
        if self.store is None or not self._thread.is_alive():
            return None
        if model is not None:
            self._put_first(best_round, _Job("model", partial(self._log_model, best_round, model)))
        self._put(None)
        patience = INTERRUPTED_TIMEOUT if interrupted else self._timeout
        self._patient = self._artifacts is not None and not interrupted
        self._wait(patience)
        if self._thread.is_alive() or self._undelivered:
            missing = sentence(", ".join(self._undelivered)) or "the last entries"
            log.warning(
                "MLflow at %s did not take: %s. Run the same command with --resume to deliver "
                "this when %s", self.tracking_uri, missing,
                "the server is back" if self.tracking_uri.startswith("http") else
                "it can be written",
            )  # fmt: skip
        run_id = self.store.run_ids.get(best_round)
        if run_id is None:
            return None
        return {
            "experiment_id": self.experiment_id,
            "run_id": run_id,
            "tracking_uri": self.tracking_uri,
        }

    def _wait(self, patience: float) -> None:
        """Wait for the thread to finish; show a bar if that takes long."""
        self._deadline = time.monotonic() + patience
        self._thread.join(min(QUIET, patience))
        if not self._thread.is_alive():
            return
        columns = (TextColumn("to MLflow"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        console = Console(stderr=True)
        total = len(self._jobs)
        if not console.is_terminal:
            log.info("%d entries are still on their way to MLflow at %s", total, self.tracking_uri)
        with Progress(*columns, console=console, transient=True) as progress:
            bar = progress.add_task("", total=total)
            while self._thread.is_alive():
                if time.monotonic() > self._deadline:
                    return
                progress.update(bar, completed=total - len(self._jobs))
                self._thread.join(0.2)

    def _log_model(self, round: int, model: BestModel) -> None:
        assert self.store is not None
        try:
            self.store.log_model(round, model)
        except Exception as error:
            if is_worth_another_try(error):
                raise
            said = sentence(f"{type(error).__name__}: {error}")
            log.warning("the model was not logged to MLflow: %s", said)

    # -- the thread ----------------------------------------------------------------------

    def _put(self, job: _Job | None) -> None:
        with self._ready:
            self._jobs.append(job)
            self._ready.notify()

    def _put_first(self, round: int, job: _Job) -> None:
        """Queue a job before all waiting rounds except its own, whose MLflow run it needs."""
        with self._ready:
            own = [other for other in self._jobs if other and other.round == round]
            rest = [other for other in self._jobs if other not in own]
            self._jobs = deque([*own, job, *rest])
            self._ready.notify()

    def _work(self) -> None:
        while True:
            with self._ready:
                self._ready.wait_for(lambda: self._jobs)
                job = self._jobs.popleft()
            if job is None:
                return
            if not self._try(job):
                self._undelivered.append(job.name)
            elif self._deadline is not None and self._patient:
                self._deadline = time.monotonic() + self._timeout  # extended while jobs succeed

    def _try(self, job: _Job) -> bool:
        """Try a job with back-off until it succeeds (True) or time is up (False)."""
        wait, warned = 0.5, False
        while True:
            try:
                job.do()
            except Exception as error:
                if not warned:
                    said = sentence(str(error).partition("\n")[0])
                    log.warning("MLflow (%s): %s; trying again", job.name, said)
                    warned = True
                if self._deadline is not None and time.monotonic() + wait > self._deadline:
                    return False
                time.sleep(wait)
                wait = min(wait * 2, MAX_BACKOFF)
            else:
                return True
