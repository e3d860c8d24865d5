"""MLflow tracking on its own thread, so that a slow or absent server never holds up training.

Only the aggregator tracks, and it logs no data or metrics of single learners. `mlflow_store` and
`mlflow_training` say what is written and under which names.
"""

from __future__ import annotations

import importlib.util
import logging
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from flops_fl.core.observer import Observer, RunInfo
from flops_fl.errors import UsageError
from flops_fl.extras import install
from flops_fl.limits import TRACKING_TIMEOUT
from flops_fl.observers.figures import system_load
from flops_fl.observers.mlflow_store import (
    BestModel,
    MlflowStore,
    RoundMissing,
    is_worth_another_try,
)
from flops_fl.observers.mlflow_training import SAMPLING, TrainingRun
from flops_fl.observers.tries import delivered
from flops_fl.text import counted, raised, reason, without_secrets
from flops_fl.types import Best, RoundRecord

log = logging.getLogger(__name__)

INTERRUPTED_TIMEOUT = 3.0  # seconds to deliver the rest if somebody has interrupted the process
MAX_BACKOFF = 10.0  # seconds between tries
QUIET = 3.0  # seconds after which a wait at the end is shown on a terminal, or said in a log


@dataclass(slots=True)
class _Job:
    name: str
    do: Callable[[], None]
    round: int = 0


class MlflowObserver(Observer):
    """Logs each round and the whole training to MLflow, and the best model at the end.

    Args:
        tracking_uri: A server, or ``sqlite:///...``.
        artifacts: Folder for the artifacts of a local store. The end of a run waits until a local
            store has taken everything.
        timeout: Seconds that a server has at the end to take the rest.
        settings: Options to log as parameters, beside those that `RunInfo` has.

    Raises:
        UsageError: MLflow is not installed.
    """

    def __init__(
        self,
        tracking_uri: str,
        artifacts: Path | None = None,
        timeout: float = TRACKING_TIMEOUT,
        settings: Mapping[str, Any] | None = None,
    ) -> None:
        if importlib.util.find_spec("mlflow") is None:
            raise UsageError(
                f"MLflow is not installed: {install('aggregator')}, or give --no-tracking"
            )
        self.tracking_uri = without_secrets(tracking_uri)  # as people see it
        self._uri = tracking_uri
        self._timeout = timeout
        self.store: MlflowStore | None = None
        self._artifacts = artifacts
        self._settings = settings or {}
        self._history: Sequence[RoundRecord] = ()
        self._played = False
        self._jobs: deque[_Job | None] = deque()
        self._ready = threading.Condition()
        self._told = False  # a job that delivers the training's figures is waiting
        self._undelivered: list[_Job] = []
        self._under_way: _Job | None = None
        self._why = ""  # the server took nothing the last time
        self._deadline: float | None = None
        self._patient = False
        self._thread = threading.Thread(target=self._work, name="flops-mlflow", daemon=True)

    @property
    def experiment_id(self) -> str:
        """The MLflow experiment of the runs; empty until it is known."""
        return self.store.experiment_id if self.store else ""

    @property
    def training_run_id(self) -> str:
        """The MLflow run of the whole training; empty until it is known."""
        return self.store.training.run_id if self.store else ""

    def on_start(self, run: RunInfo, history: Sequence[RoundRecord]) -> None:
        training = TrainingRun(run, self._settings, history)
        self.store = MlflowStore(self._uri, self._artifacts, run, training)
        self._history = history
        self._thread.start()
        self._put(_Job("the experiment", self.store.connect))
        for record in history:
            self._deliver(record, {})
        system_load()  # a processor's load is that since the call before

    def on_initial(self, record: RoundRecord) -> None:
        self._deliver(record, {})

    def on_round(self, record: RoundRecord, best: Best | None) -> None:
        self._played = True
        self._deliver(record, system_load())

    def on_end(self, status: str, error: str | None) -> None:
        if self.store is None:
            return
        last = self._history[-1].ended if self._history else 0.0
        idle = status == "completed" and not self._played  # an earlier process has trained it all
        self.store.training.end(status, (idle and last) or time.time())

    def _deliver(self, record: RoundRecord, load: Mapping[str, float]) -> None:
        assert self.store is not None
        log_round = partial(self.store.log_round, record, load)
        self._put(_Job(f"round {record.round}", log_round, record.round))
        self.store.training.add(record)
        if not self._told:  # one job delivers the figures of all rounds that come before it runs
            self._told = True
            self._put(self._figures())

    def _figures(self) -> _Job:
        def deliver() -> None:
            assert self.store is not None
            self._told = False
            self.store.deliver_training()

        return _Job("the training's figures", deliver)

    def close(
        self,
        best_round: int,
        model: BestModel | None,
        files: Sequence[Path] = (),
        *,
        interrupted: bool = False,
    ) -> dict[str, str] | None:
        """Log the best round's model and wait until all entries are delivered.

        The wait for a server is bounded. The training's figures and the model go before waiting
        rounds, since people need them most.

        Args:
            files: The run's results, to be stored with the training's run.

        Returns:
            experiment_id, run_id of the best round, training_run_id and tracking_uri; None if the
            best round's run is missing.
        """
        if self.store is None or not self._thread.is_alive():
            return None
        log_results = partial(self.store.log_results, files)
        first = [
            self._figures(),
            _Job("the results", partial(self._once, "the results were", log_results)),
        ]
        if model is not None:
            log_model = partial(self.store.log_model, best_round, model)
            first.append(_Job("the model", partial(self._once, "the model was", log_model)))
            if model.register:
                register = partial(self.store.register, best_round, model.register)
                name = f"the name {model.register}"
                first.append(_Job(name, partial(self._once, f"{name} was", register)))
        self._put_first(best_round, first)
        self._put(_Job("the training's end", self.store.end))
        self._put(None)
        patience = INTERRUPTED_TIMEOUT if interrupted else self._timeout
        self._patient = self._artifacts is not None and not interrupted
        self._wait(patience)
        missing = self._missing()
        if self._thread.is_alive():  # it ends with this process
            with self._ready:
                self._jobs = deque([None])
            self.store.abandon()
        if missing and interrupted and self._artifacts is not None:
            log.info("MLflow's store lacks the last entries: --resume delivers them, too")
        elif missing:
            log.warning(
                "MLflow at %s did not take: %s%s. Run the same command with --resume to deliver "
                "this when %s", self.tracking_uri, missing, f" ({self._why})" if self._why else "",
                "the server is back" if self.tracking_uri.startswith("http") else
                "it can be written",
            )  # fmt: skip
        run_id = self.store.run_ids.get(best_round)
        if run_id is None:
            return None
        return {
            "experiment_id": self.experiment_id,
            "run_id": run_id,
            "training_run_id": self.training_run_id,
            "tracking_uri": self.tracking_uri,
        }

    def _missing(self) -> str:
        """What is not delivered; the rounds last, since they may be many."""
        with self._ready:
            left = [*self._undelivered, self._under_way, *self._jobs]
        jobs = {job.name: job for job in left if job}  # the figures may wait several times
        names = [name for name, job in jobs.items() if not job.round]
        if rounds := [job.round for job in jobs.values() if job.round]:
            more = len(rounds) > 1
            of = f"{counted(len(rounds), 'round')} from" if more else "round"
            names.append(f"{of} {min(rounds)}{' on' if more else ''}")
        return ", ".join(names)

    def _wait(self, patience: float) -> None:
        """Wait for the thread to finish; show a bar if that takes long."""
        self._deadline = time.monotonic() + patience
        self._thread.join(min(QUIET, patience))
        if not self._thread.is_alive():
            return
        columns = (TextColumn("to MLflow"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        console = Console(stderr=True)
        total = len(self._jobs)
        shown = console.is_terminal
        if not shown:
            log.info("%d entries are on their way to MLflow at %s", total, self.tracking_uri)
        with Progress(*columns, console=console, transient=True, disable=not shown) as progress:
            bar = progress.add_task("", total=total)
            while self._thread.is_alive():
                if time.monotonic() > self._deadline:
                    return
                progress.update(bar, completed=total - len(self._jobs))
                self._thread.join(0.2)

    def _once(self, what: str, do: Callable[[], None]) -> None:
        """Deliver what may be wrong in itself: say so then, and do not try again."""
        try:
            do()
        except Exception as error:
            if is_worth_another_try(error):
                raise
            log.warning("%s not logged to MLflow: %s", what, raised(error))

    # -- the thread ----------------------------------------------------------------------

    def _put(self, job: _Job | None) -> None:
        with self._ready:
            self._jobs.append(job)
            self._ready.notify()

    def _put_first(self, round: int, jobs: Sequence[_Job]) -> None:
        """Queue jobs before all waiting rounds except `round`, whose MLflow run they need."""
        with self._ready:
            own = [other for other in self._jobs if other and other.round == round]
            rest = [other for other in self._jobs if other not in own]
            self._jobs = deque([*own, *jobs, *rest])
            self._ready.notify()

    def _work(self) -> None:
        while True:
            with self._ready:
                self._ready.wait_for(lambda: self._jobs, SAMPLING)
                job = self._jobs.popleft() if self._jobs else self._figures()
                self._under_way = job
            if job is None:
                return
            if not self._try(job):
                self._undelivered.append(job)
            elif self._deadline is not None and self._patient:
                self._deadline = time.monotonic() + self._timeout  # extended while jobs succeed

    def _try(self, job: _Job) -> bool:
        """Try a job with back-off until it succeeds (True) or time is up (False)."""
        store = self.store
        assert store is not None

        def do() -> None:
            store.training.sample()
            job.do()
            if job.round:  # others may have had nothing to deliver
                self._why = ""

        def away(error: Exception) -> None:
            known = isinstance(error, RoundMissing) or reason(error) == self._why
            if not known and time.monotonic() < (self._deadline or math.inf):
                self._why = reason(error)
                log.warning("MLflow at %s: %s; trying again", self.tracking_uri, self._why)

        return delivered(do, lambda: self._deadline or math.inf, away, longest=MAX_BACKOFF)
