"""What a run leaves behind: its folder, its observers, and the result at its end."""

from __future__ import annotations

import json
import logging
import resource
import sys
import tempfile
import uuid
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from flops_fl.core.aggregation import Strategy
from flops_fl.core.observer import Observer, Observers, RunInfo
from flops_fl.core.plan import State
from flops_fl.errors import INTERRUPTED, FlopsError, UsageError
from flops_fl.observers.console import ConsoleObserver
from flops_fl.observers.metrics import MetricsObserver
from flops_fl.observers.mlflow import BestModel, MlflowObserver, local_store
from flops_fl.observers.picture import PictureObserver
from flops_fl.options.config import AggregatorOptions
from flops_fl.process.health import Health
from flops_fl.process.spool import LARGE_MODEL, spool
from flops_fl.repo.contract import ManagedModel
from flops_fl.repo.dependencies import pip_requirements
from flops_fl.repo.installed import installed_versions
from flops_fl.repo.source import Checkout
from flops_fl.run.census import Census
from flops_fl.run.checkpoint import (
    BEST,
    LAST,
    Checkpoint,
    CheckpointObserver,
    load_checkpoint,
    load_npz,
    save_npz,
)
from flops_fl.run.result import result_document, write_result
from flops_fl.types import Best, Layout, Parameters, RoundRecord, Setup, parameters_sha256

log = logging.getLogger(__name__)

RESULT, PICTURE = "result.json", "history.png"


class _Latest(Observer):
    """The newest state: what stands when the run ends, however it ends."""

    def __init__(self, state: State) -> None:
        self.state = state

    def on_fit(self, record: RoundRecord, parameters: Parameters) -> None:
        state = replace(self.state, parameters=parameters, round=record.round, pending=record)
        self.state = state

    def on_round(self, record: RoundRecord, parameters: Parameters, best: Best) -> None:
        self.state = State(
            parameters=parameters,
            round=record.round,
            history=(*self.state.history, record),
            best=best,
        )


class Report:
    """Observers of one run, and its result.

    Args:
        state: Where the run starts: the initial model, or a checkpoint to go on from.
    """

    def __init__(
        self,
        options: AggregatorOptions,
        repo: Checkout,
        model: ManagedModel,
        *,
        strategy: Strategy,
        state: State,
        run: RunInfo,
    ) -> None:
        self.folder = options.folder
        self.run = run
        self.setup = Setup(commit=repo.commit or "", versions=installed_versions(repo.path))
        self._options = options
        self._repo = repo
        self._model = model
        self._latest = _Latest(state)
        self._console = Console(stderr=True)
        self._mlflow = None if options.no_tracking else self._tracker()
        begins = state.round == 0
        initial = (lambda: self._latest.state.parameters) if begins else None
        checkpoints = CheckpointObserver(self.folder, strategy.state, initial, state.best)
        ignored = options.mismatch == "ignore"
        self._census = Census(self.setup, (lambda said: None) if ignored else self._warn)
        observers: list[Observer] = [self._latest, checkpoints, self._census]
        observers += [self._mlflow] if self._mlflow else []
        self.health = Health()
        observers += [MetricsObserver(self.health), ConsoleObserver(self._console)]
        observers += [PictureObserver(self.folder / PICTURE)]
        self.observers = Observers(observers)

    @property
    def state(self) -> State:
        """The newest state. Nobody else should keep one: it holds a whole model."""
        return self._latest.state

    def _warn(self, said: str) -> None:
        self._console.print(f"warning: {said}", style="yellow", highlight=False, soft_wrap=True)

    def _tracker(self) -> MlflowObserver:
        if self._options.tracking_uri:
            return MlflowObserver(self._options.tracking_uri)
        return MlflowObserver(*local_store(self.folder))

    def finish(self, error: FlopsError | KeyboardInterrupt | None) -> int:
        """Write everything that a run leaves; the exit code, error reported."""
        try:
            return self._finish(error)
        except OSError as fault:
            raise UsageError(
                f"the results cannot be written to {self.folder} ({fault.strerror}): make room, "
                "then go on with --resume"
            ) from error or fault

    def _finish(self, error: FlopsError | KeyboardInterrupt | None) -> int:
        state = self._latest.state
        status = "completed" if error is None else "failed"
        if isinstance(error, KeyboardInterrupt):
            status = "interrupted"
        said = str(error) if isinstance(error, FlopsError) else None
        self.observers.on_end(status, said, state.parameters)
        save_npz(self.folder / LAST, state.parameters)
        document = result_document(
            self.run,
            state.history,
            state.best,
            setups=self._census.document(),
            model_sha256=parameters_sha256(state.parameters),
            peak_memory_bytes=_peak_memory(),
            mlflow=self._close_mlflow(state, interrupted=status == "interrupted"),
            status=status,
            error=said,
        )
        write_result(self.folder / RESULT, document)
        self._say_where(state)
        if self._options.json_:
            sys.stdout.write(json.dumps(document, indent=2) + "\n")
            sys.stdout.flush()
        if isinstance(error, FlopsError):
            raise error
        return 0 if error is None else INTERRUPTED

    def _close_mlflow(self, state: State, *, interrupted: bool) -> dict[str, str] | None:
        if self._mlflow is None:
            return None
        best = state.best.round if state.best else 0
        if not best or interrupted:  # whoever goes on with the run will log its model
            return self._mlflow.close(best, None, interrupted=interrupted)
        # Serialising may import the user's modules by name.
        with self._model.workspace.active():
            return self._mlflow.close(best, self._best_model())

    def _best_model(self) -> BestModel | None:
        try:
            self._model.load(load_npz(self.folder / BEST))
            model = self._model.model()
            requirements = pip_requirements(self._repo.path)
        except FlopsError as error:
            self._console.print(f"the best model was not logged to MLflow: {error}", style="red")
            return None
        code = sorted(str(path) for path in self._repo.path.glob("*.py"))
        return BestModel(
            model=model,
            flavor=self._options.model_flavor,
            requirements=requirements,
            code_paths=code,
        )

    def _say_where(self, state: State) -> None:
        names = [RESULT, LAST] + ([BEST, PICTURE] if state.history else [])
        shown = ", ".join(names)
        self._console.print(f"in {self.folder}: {shown}", highlight=False, soft_wrap=True)
        if self._mlflow and self._mlflow.experiment_id:
            uri = self._mlflow.tracking_uri
            text = f"MLflow: mlflow ui --backend-store-uri {uri}" if "://" in uri else uri
            if uri.startswith("http"):
                text = f"MLflow: {uri}/#/experiments/{self._mlflow.experiment_id}"
            self._console.print(text, highlight=False, soft_wrap=True)


def report_on(
    options: AggregatorOptions, repo: Checkout, model: ManagedModel, strategy: Strategy
) -> Report:
    """Prepare the folder, the observers, and the state to start from.

    Raises:
        UsageError: the folder holds an unfinished run and neither --resume nor --fresh was
            said, or the run there is another one.
    """
    info = RunInfo(
        project_id=options.project_id,
        run_id=uuid.uuid4().hex[:12],
        repo_source=options.repo,
        repo_commit=repo.commit,
        strategy=options.strategy,
        seed=options.seed,
        rounds=options.rounds,
        options={**options.cohort, **options.limits, **strategy.options},
    )
    try:
        options.folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(
            f"--output {options.folder} cannot be made ({error.strerror}): choose another folder"
        ) from None
    try:
        with tempfile.TemporaryFile(dir=options.folder):
            pass
    except OSError as error:
        raise UsageError(
            f"--output {options.folder} cannot be written ({error.strerror}): choose another folder"
        ) from None
    info, state = _starting_point(options, info, model, strategy)
    state = replace(state, parameters=keep(options.folder, state.parameters))
    if is_large(state.parameters):
        model.release()  # the user's own copy is not needed before the end
    return Report(options, repo, model, strategy=strategy, state=state, run=info)


def keep(folder: Path, parameters: Parameters) -> Parameters:
    """Where the global model is kept between rounds: in memory, or, if large, in a file."""
    try:
        return spool(parameters, folder) if is_large(parameters) else parameters
    except OSError as error:
        log.warning("no room in %s (%s): the model stays in memory", folder, error)
        return parameters


def is_large(parameters: Parameters) -> bool:
    """Whether another copy in memory would hurt."""
    return Layout.of(parameters).nbytes >= LARGE_MODEL


def _starting_point(
    options: AggregatorOptions, info: RunInfo, model: ManagedModel, strategy: Strategy
) -> tuple[RunInfo, State]:
    checkpoint = None if options.fresh else load_checkpoint(options.folder)
    if checkpoint is None:
        return info, State(parameters=model.parameters())
    if not options.resume:
        if not _finished(options.folder, checkpoint.run.run_id):
            raise UsageError(
                f"{options.folder} holds an unfinished run: go on with --resume, start anew with "
                "--fresh, or choose another --output"
            )
        return info, State(parameters=model.parameters())
    _require_same(checkpoint, info, model.layout)
    strategy.restore(checkpoint.strategy)
    state = State(
        parameters=checkpoint.parameters,
        round=checkpoint.round,
        history=checkpoint.history,
        best=checkpoint.best,
        pending=checkpoint.pending,
    )
    return replace(info, run_id=checkpoint.run.run_id), state


def _finished(folder: Path, run_id: str) -> bool:
    try:
        result = json.loads((folder / RESULT).read_text())
        return bool(result["status"] == "completed" and result["run_id"] == run_id)
    except (OSError, ValueError, KeyError):
        return False


def _require_same(checkpoint: Checkpoint, now: RunInfo, layout: Layout) -> None:
    was = checkpoint.run
    differences = [
        f"{name} was {getattr(was, name)!r} and is {getattr(now, name)!r}"
        for name in ("project_id", "repo_commit", "strategy", "seed", "options")
        if getattr(was, name) != getattr(now, name)
    ]
    contract = Layout.of(checkpoint.parameters).difference(layout)
    differences += [f"the model has {contract}"] if contract else []
    if differences:
        raise UsageError(
            f"--resume would go on with another run: {'; '.join(differences)}. Give the same "
            "options and commit, or --fresh"
        )


def _peak_memory() -> int:
    """Peak resident size of this process in bytes (getrusage(2): kilobytes on Linux)."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
