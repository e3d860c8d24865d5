"""The MLflow run of a whole training, whose children are the runs of its rounds.

Its metrics have the round as their step, so their charts are curves and two trainings can be
compared. Its deliveries may be repeated: the run is found by its tags, and the rounds that it has
already are not sent again.
"""

from __future__ import annotations

import getpass
import time
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from flops_fl.core.observer import RunInfo
from flops_fl.observers.figures import system_load, training_figures
from flops_fl.types import Best, RoundRecord

RUN_TAG = "flops.run_id"
CHANGED_TAG = "flops.changed"  # options of a run that was taken up again, where they differ
BEST_TAG = "flops.best_run_id"  # the run of the best round, which has the model
PARENT_TAG = "mlflow.parentRunId"
SAMPLING = 10.0  # seconds between two samples of the machine's load, as MLflow's own
BATCH = 1000  # metrics that a server takes in one call
_STATUS = {"completed": "FINISHED", "failed": "FAILED", "interrupted": "KILLED"}


class TrainingRun:
    """The run of a whole training. For one thread, which delivers; `add` and `end` are for any.

    Args:
        settings: Options to log as parameters, beside those of `run`.
        history: The rounds that were over before this process.
    """

    def __init__(
        self, run: RunInfo, settings: Mapping[str, Any], history: Sequence[RoundRecord]
    ) -> None:
        self.run_id = ""
        self._run = run
        self._settings = settings
        first = history[0].ended - history[0].seconds if history and history[0].ended else 0.0
        self._began = first or time.time()
        self._goes_on = not (history and run.rounds) or history[-1].round < run.rounds
        self._client: Any = None
        self._running = False
        self._stored: set[int] = set()  # rounds that its metrics have
        self._best: Best | None = None
        self._records: deque[RoundRecord] = deque()
        self._metrics: list[Any] = []  # to be delivered, oldest first
        self._sampled = 0.0
        self._status, self._ended = "", 0.0

    @property
    def tags(self) -> dict[str, str]:
        """Who trains what: the tags of the training's run, and of each round's."""
        commit, _, changes = (self._run.repo_commit or "").partition("+")
        tags = {
            RUN_TAG: self._run.run_id,
            "mlflow.source.name": self._run.repo_source,
            "mlflow.source.type": "PROJECT",
            "mlflow.source.git.commit": commit,
            "mlflow.source.git.dirty": "true" if changes else "",
        }
        with suppress(KeyError, OSError, ImportError):  # a container's user may have no name
            tags["mlflow.user"] = getpass.getuser()
        return {name: value for name, value in tags.items() if value}

    # -- delivery ------------------------------------------------------------------------

    def found(self, run: Any) -> None:
        """An earlier process, or an earlier try, has made the run."""
        self.run_id = run.info.run_id

    def open(self, client: Any, experiment_id: str) -> None:
        """Create the run, or go on with the one that was found."""
        if not self.run_id:
            self.run_id = self.create(client, experiment_id)
        run = client.get_run(self.run_id)
        self._log_options(client, run.data.params)
        if "seconds" in run.data.metrics:
            history = client.get_metric_history(self.run_id, "seconds")
            self._stored = {metric.step for metric in history}
        self._began = run.info.start_time / 1000
        self._client = client
        self._running = run.info.status == "RUNNING"
        if self._goes_on:
            self._run_again()
        system_load()  # a processor's load is that since the call before
        self._sampled = time.monotonic()

    def create(self, client: Any, experiment_id: str) -> str:
        """Create the run; returns its id."""
        name = f"{self._run.strategy} {self._run.run_id}"
        run = client.create_run(
            experiment_id, start_time=int(self._began * 1000), tags=self.tags, run_name=name
        )
        return str(run.info.run_id)

    def _log_options(self, client: Any, stored: Mapping[str, str]) -> None:
        """All options as parameters. MLflow changes none: a tag says what became of them."""
        from mlflow.entities import Param

        info = self._run
        options = {
            **self._settings,
            **info.options,
            "strategy": info.strategy,
            "seed": info.seed,
            "rounds": info.rounds,
            "repository": info.repo_source,
            "commit": info.repo_commit,
        }
        said = {name: str(value) for name, value in options.items()}
        new = [Param(name, value) for name, value in said.items() if name not in stored]
        if new:
            client.log_batch(self.run_id, params=new)
        changed = [
            f"{name}={value}" for name, value in said.items() if stored.get(name, value) != value
        ]
        if changed:
            client.set_tag(self.run_id, CHANGED_TAG, ", ".join(changed))

    def add(self, record: RoundRecord) -> None:
        """A round is over: its figures go with the next delivery."""
        self._records.append(record)

    def sample(self, *, at_once: bool = False) -> None:
        """Note the machine's load if the last time was long ago, or `at_once`.

        Its step is the time since the training's start in seconds.
        """
        now = time.monotonic()
        if not (self._running and self._goes_on):
            return  # an earlier process has trained it all
        if now - self._sampled < SAMPLING and not at_once:
            return
        self._sampled = now
        seconds = max(0, int(time.time() - self._began))
        self._note(system_load(), time.time(), seconds)

    def _note(self, figures: Mapping[str, float], when: float, step: int) -> None:
        from mlflow.entities import Metric

        stamp = int(when * 1000)
        self._metrics += [Metric(name, value, stamp, step) for name, value in figures.items()]

    def deliver(self) -> None:
        """Deliver all that has come together, in few calls."""
        while self._records:
            record = self._records.popleft()
            self._best = Best.after(self._best, record) if record.round else None
            if record.round not in self._stored:
                self._stored.add(record.round)
                self._note(
                    training_figures(record, self._best), record.ended or time.time(), record.round
                )
        if self._metrics:
            self._run_again()
        while self._metrics:
            self.log(self._metrics[:BATCH])
            del self._metrics[:BATCH]

    def _run_again(self) -> None:
        if not self._running:
            self._client.update_run(self.run_id, status="RUNNING")
            self._running = True

    def log(self, metrics: Sequence[Any]) -> None:
        """One call with metrics of any rounds; a server that has some of them keeps them once."""
        self._client.log_batch(self.run_id, metrics=metrics)

    def deliver_model(self, model_id: str, round: int, run_id: str) -> None:
        """Name the best model among what came of the training. It lies in its round's run only."""
        from mlflow.entities import LoggedModelOutput

        outputs = self._client.get_run(self.run_id).outputs
        if model_id not in {output.model_id for output in outputs.model_outputs}:
            self._client.log_outputs(self.run_id, [LoggedModelOutput(model_id, step=round)])
        self._client.set_tag(self.run_id, BEST_TAG, run_id)

    def end(self, status: str, ended: float) -> None:
        """The training is over: ``completed``, ``failed`` or ``interrupted``; Unix time."""
        self._status, self._ended = _STATUS[status], ended

    def close(self) -> None:
        """Deliver what is left, and the end if somebody has said it."""
        self.sample(at_once=True)
        self.deliver()
        if self._running and self._status:
            self._client.set_terminated(self.run_id, self._status, int(self._ended * 1000))
            self._running = False
