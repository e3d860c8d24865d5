"""The generic Flower client around a user's ModelManager."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flwr.client import NumPyClient

from flops_fl.core.seeding import seed_generators
from flops_fl.repo.contract import ManagedModel
from flops_fl.types import Array, Parameters, Scalar

SEED, ROUND = "flops.seed", "flops.round"
"""Config entries that make a task's draws reproducible."""


class LearnerClient(NumPyClient):  # type: ignore[misc]  # flwr ships no usable types here
    """A `flwr.client.NumPyClient` that trains the model of an ML repository.

    Args:
        model: The repository's model, its data attached.
        learner: This learner's id; enters the seed of every task.
    """

    def __init__(self, model: ManagedModel, learner: str) -> None:
        self.model = model
        self.learner = learner

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
