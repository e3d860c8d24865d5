"""MLflow's part of a run: the rounds as they come, and the best model at the end."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from flops_fl.core.observer import Observer
from flops_fl.core.plan import State
from flops_fl.errors import FlopsError, RepositoryError
from flops_fl.extras import install, is_installed, program
from flops_fl.observers.flavors import check_flavor
from flops_fl.observers.mlflow import MlflowObserver
from flops_fl.observers.mlflow_store import BestModel, local_store
from flops_fl.options.aggregator import AggregatorOptions
from flops_fl.repo.contract import ManagedModel
from flops_fl.repo.dependencies import code_folders, installed_requirements
from flops_fl.repo.source import Checkout
from flops_fl.run.checkpoint import BEST, LAST, load_npz


class Tracking:
    """What MLflow is told of a run; nothing with --no-tracking.

    Raises:
        UsageError: MLflow is not installed, or --model-flavor does not fit the model.
    """

    def __init__(
        self,
        options: AggregatorOptions,
        folder: Path,
        repo: Checkout,
        model: ManagedModel,
        console: Console,
    ) -> None:
        self._options = options
        self._folder = folder
        self._repo = repo
        self._model = model
        self._console = console
        self._mlflow: MlflowObserver | None = None
        if options.tracks:
            check_flavor(options.model_flavor, model.model())
        if options.tracking_uri:
            self._mlflow = MlflowObserver(options.tracking_uri, timeout=options.tracking_timeout)
        elif options.tracks:
            self._mlflow = MlflowObserver(*local_store(folder), options.tracking_timeout)

    @property
    def observers(self) -> Sequence[Observer]:
        return [self._mlflow] if self._mlflow else []

    @property
    def where(self) -> str:
        """Where a person finds it, in a line; empty if it is nowhere."""
        if self._mlflow is None or not self._mlflow.experiment_id:
            return ""
        uri = self._mlflow.tracking_uri
        if uri.startswith("http"):
            return f"MLflow: {uri}/#/experiments/{self._mlflow.experiment_id}"
        if "://" not in uri:
            return f"MLflow: {uri}"
        after = "" if is_installed("mlflow") else f", after {install('ui')}"
        return f"MLflow: {program('mlflow')} ui --backend-store-uri {shlex.quote(uri)}{after}"

    def finish(self, state: State, *, interrupted: bool) -> dict[str, str] | None:
        """Log the best model and wait for all that is under way; MLflow's part of the result.

        Where no round was evaluated it is the last one.
        """
        if self._mlflow is None:
            return None
        number, file = (state.best.round, BEST) if state.best else (len(state.history), LAST)
        if number == 0 or interrupted:  # whoever goes on with the run will log its model
            return self._mlflow.close(number, None, interrupted=interrupted)
        if state.best is None:
            said = "no round was evaluated: the model that is logged to MLflow is the last one"
            self._console.print(said, style="yellow", highlight=False, soft_wrap=True)
        # Serialising may import the user's modules by name.
        with self._model.workspace.importable():
            return self._mlflow.close(number, self._model_in(file))

    def _model_in(self, file: str) -> BestModel | None:
        try:
            self._model.load(load_npz(self._folder / file))
            model = self._model.model()
        except FlopsError as error:
            self._console.print(f"the model was not logged to MLflow: {error}", style="red")
            return None
        try:
            requirements, others = installed_requirements(self._repo.path)
        except RepositoryError as error:  # it was good at the start
            requirements, others = [], [f"what nobody knows: {error}"]
        for said in others:
            self._console.print(
                f"the logged model's requirements: the repository asks for {said}",
                style="yellow", highlight=False, soft_wrap=True,
            )  # fmt: skip
        top = self._repo.path
        code = sorted(map(str, [*top.glob("*.py"), *code_folders(top)]))
        return BestModel(
            model=model,
            flavor=self._options.model_flavor,
            requirements=requirements,
            code_paths=code,
        )
