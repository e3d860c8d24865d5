"""MLflow's part of a run: it logs each round, and the best model at the end."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from flops_fl.core.observer import Observer
from flops_fl.core.plan import State
from flops_fl.errors import FlopsError, RepositoryError
from flops_fl.extras import install, is_installed, program
from flops_fl.observers.flavors import check_flavor, example_for
from flops_fl.observers.mlflow import MlflowObserver
from flops_fl.observers.mlflow_local import artifacts_of, local_store
from flops_fl.observers.mlflow_store import BestModel
from flops_fl.options.aggregator import AggregatorOptions
from flops_fl.options.described import LIMITS, RESULTS, described
from flops_fl.options.training import TrainingOptions
from flops_fl.repo.contract import ManagedModel
from flops_fl.repo.dependencies import code_paths, installed_requirements
from flops_fl.repo.source import Checkout
from flops_fl.run.checkpoint import BEST, LAST, load_npz
from flops_fl.run.result import PICTURE, RESULT


class Tracking:
    """Logs a run to MLflow; does nothing with --no-tracking.

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
        if options.tracks:
            server = options.tracking_uri
            uri, artifacts = (server, artifacts_of(server)) if server else local_store(folder)
            timeout, settings = options.tracking_timeout, _settings(options)
            self._mlflow = MlflowObserver(uri, artifacts, timeout, settings)

    @property
    def observers(self) -> Sequence[Observer]:
        return [self._mlflow] if self._mlflow else []

    @property
    def where(self) -> str:
        """A line that says how to see the run in MLflow; empty if MLflow has no such run."""
        if self._mlflow is None or not self._mlflow.experiment_id:
            return ""
        uri = self._mlflow.tracking_uri
        if uri.startswith("http"):
            run = self._mlflow.training_run_id
            below = f"/runs/{run}" if run else ""
            return f"MLflow: {uri}/#/experiments/{self._mlflow.experiment_id}{below}"
        if "://" not in uri:
            return f"MLflow: {uri}"
        after = "" if is_installed("mlflow") else f", after {install('ui')}"
        return f"MLflow: {program('mlflow')} ui --backend-store-uri {shlex.quote(uri)}{after}"

    def finish(self, state: State, *, interrupted: bool) -> dict[str, str] | None:
        """Log the best model, wait for pending logging, and return MLflow's part of the result.

        If no round was evaluated, the last model is logged instead.
        """
        if self._mlflow is None:
            return None
        files = [self._folder / name for name in (RESULT, PICTURE)]
        number, file = (state.best.round, BEST) if state.best else (len(state.history), LAST)
        if number == 0 or interrupted:  # a resumed run logs its model at its own end
            return self._mlflow.close(number, None, files, interrupted=interrupted)
        if state.best is None:
            said = "no round was evaluated: the model that is logged to MLflow is the last one"
            self._console.print(said, style="yellow", highlight=False, soft_wrap=True)
        # Serialising may import the user's modules by name.
        with self._model.workspace.importable():
            return self._mlflow.close(number, self._model_in(file), files)

    def _model_in(self, file: str) -> BestModel | None:
        try:
            self._model.load(load_npz(self._folder / file))
            model = self._model.model()
            example = self._example(model)
        except FlopsError as error:
            self._console.print(f"the model was not logged to MLflow: {error}", style="red")
            return None
        try:
            requirements, others = installed_requirements(self._repo.path)
        except RepositoryError as error:  # readable at the start, so it has changed since
            requirements, others = [], [f"packages that cannot be read: {error}"]
        for said in others:
            self._console.print(
                f"the logged model's requirements: the repository asks for {said}",
                style="yellow", highlight=False, soft_wrap=True,
            )  # fmt: skip
        return BestModel(
            model=model,
            flavor=self._options.model_flavor,
            requirements=requirements,
            code_paths=code_paths(self._repo.path),
            input_example=example,
            register=self._options.register_,
        )

    def _example(self, model: Any) -> Any:
        """An input example of the model, if one is known.

        MLflow loads the model a second time to check it, so there is none for a large model.
        """
        if self._model.layout.nbytes >= self._options.large_model:
            return None
        given = self._model.input_example()
        return example_for(model) if given is None else given


def _settings(options: AggregatorOptions) -> dict[str, Any]:
    """The options that affect the training, besides those in `RunInfo`."""
    elsewhere = ("strategy_option", "min_clients")  # logged as the values they set
    return {
        name: getattr(options, name)
        for name, field in TrainingOptions.model_fields.items()
        if described(field).group not in (RESULTS, LIMITS) and name not in elsewhere
    }
