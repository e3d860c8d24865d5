"""The generic Flower client around a user's ModelManager."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any, TypeAlias

from flwr.client import NumPyClient

from flops_fl.core.seeding import seed_generators
from flops_fl.repo.contract import ManagedModel
from flops_fl.types import Array, Evaluation, Parameters, Scalar, Setup, Task, Update

SEED, ROUND = "flops.seed", "flops.round"
"""Config entries that make a task's draws reproducible."""


Timed: TypeAlias = Callable[[str], AbstractContextManager[None]]


class LearnerClient(NumPyClient):  # type: ignore[misc]  # flwr ships no usable types here
    """A `flwr.client.NumPyClient` that trains the model of an ML repository.

    Args:
        model: The repository's model, its data attached.
        learner: This learner's id; enters the seed of every task.
        setup: What it trains with, for the aggregator to compare.
    """

    def __init__(self, model: ManagedModel, learner: str, setup: Setup | None = None) -> None:
        self.model = model
        self.learner = learner
        self.setup = setup or Setup()

    def get_parameters(self, config: Mapping[str, Scalar]) -> list[Array]:
        """The model's current parameters."""
        return self.model.parameters()

    def fit(
        self, parameters: Parameters, config: Mapping[str, Scalar]
    ) -> tuple[list[Array], int, dict[str, Any]]:
        """Train from `parameters`; the new ones and the number of training samples.

        Raises:
            RepositoryError: user code raised or broke the contract.
        """
        self._seed(config, "fit")
        self.model.load(parameters)
        own = {key: value for key, value in config.items() if key not in (SEED, ROUND)}
        examples = self.model.fit(own)
        return self.model.parameters(), examples, {}

    def evaluate(
        self, parameters: Parameters, config: Mapping[str, Scalar]
    ) -> tuple[float, int, dict[str, Any]]:
        """Loss, number of samples and ``{"accuracy": ...}`` of `parameters` on local data.

        Raises:
            RepositoryError: user code raised or broke the contract.
        """
        self._seed(config, "evaluate")
        self.model.load(parameters)
        loss, accuracy, examples = self.model.evaluate()
        return loss, examples, {"accuracy": accuracy}

    def _seed(self, config: Mapping[str, Scalar], stage: str) -> None:
        if SEED in config:
            seed_generators(int(config[SEED]), self.learner, int(config.get(ROUND, 0)), stage)


class ClientWorker:
    """A LearnerClient as the wire sees it.

    Args:
        timed: A context around each fit and evaluation, by its stage.
    """

    def __init__(self, client: LearnerClient, timed: Timed = lambda stage: nullcontext()) -> None:
        self.client = client
        self._timed = timed
        self.learner = client.learner
        self.layout = client.model.layout
        self.setup = client.setup

    def parameters(self) -> Parameters:
        """The model's current parameters."""
        return self.client.get_parameters({})

    def perform(self, task: Task, parameters: Parameters) -> Update | Evaluation:
        """Fit or evaluate on the local data."""
        # One workspace for the whole task: what is nested in it costs nothing.
        with self._timed(task.stage), self.client.model.workspace.active():
            return self._perform(task, parameters)

    def _perform(self, task: Task, parameters: Parameters) -> Update | Evaluation:
        config = {**task.config, SEED: task.seed, ROUND: task.round}
        if task.stage == "fit":
            arrays, examples, metrics = self.client.fit(parameters, config)
            return Update(
                learner=self.learner, parameters=arrays, examples=examples, metrics=metrics
            )
        loss, examples, metrics = self.client.evaluate(parameters, config)
        return Evaluation(learner=self.learner, loss=loss, examples=examples, metrics=metrics)
