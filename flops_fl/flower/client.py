"""The generic Flower client around a user's ModelManager."""

from __future__ import annotations

import gc
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, ExitStack, nullcontext
from typing import Any, TypeAlias

from flwr.client import NumPyClient

from flops_fl.core.seeding import seed_data, seed_generators
from flops_fl.data.held import HeldData
from flops_fl.errors import RepositoryError
from flops_fl.flower.demands import NORM_BIT, clip, clipping_norm, say_unused
from flops_fl.repo.contract import ManagedModel
from flops_fl.types import Array, Evaluation, Parameters, Scalar, Setup, Task, Update

SEED, ROUND = "flops.seed", "flops.round"
"""Config entries from which a task's seed is made."""


Timed: TypeAlias = Callable[[str], AbstractContextManager[None]]


class LearnerClient(NumPyClient):  # type: ignore[misc]  # flwr ships no usable types here
    """A `flwr.client.NumPyClient` that trains the model of an ML repository.

    Args:
        model: The repository's model, its data attached.
        learner: This learner's id, which is part of every task's seed.
        setup: The learner's commit, packages and state, which the aggregator compares.
        data: The data that are attached to the model.
    """

    def __init__(
        self,
        model: ManagedModel,
        learner: str,
        setup: Setup | None = None,
        data: HeldData | None = None,
    ) -> None:
        self.model = model
        self.learner = learner
        self.setup = setup or Setup()
        self.data = data

    def attach_data(self) -> None:
        """Let the model fetch its data, and split them as at every other time.

        Raises:
            FlopsError: the data cannot be loaded, or user code fails.
        """
        seed_data(self.learner)
        self.model.attach_data()

    def get_parameters(self, config: Mapping[str, Scalar]) -> list[Array]:
        """The model's current parameters."""
        return self.model.parameters()

    def fit(
        self, parameters: Parameters, config: Mapping[str, Scalar]
    ) -> tuple[list[Array], int, dict[str, Any]]:
        """Train from `parameters`; returns the new ones and the number of training samples.

        Raises:
            RepositoryError: user code raised or broke the contract, or the config demands
                something that this repository cannot do.
            FlopsError: the data have changed, and cannot be loaded: see `HeldData.refresh`.
        """
        limit = clipping_norm(config, self.model)
        if self.data:
            self.data.refresh(self.attach_data)
        self._seed(config, "fit")
        self.model.load(parameters)
        own = _own(config)
        if not self.model.takes_config:
            say_unused("fit", own)
        examples = self.model.fit(own)
        if limit is None:
            return self.model.parameters(), examples, {}
        arrays, shortened = clip(self.model.parameters(), parameters, limit)
        return arrays, examples, {NORM_BIT: shortened}

    def evaluate(
        self, parameters: Parameters, config: Mapping[str, Scalar]
    ) -> tuple[float, int, dict[str, Any]]:
        """Loss, number of samples and ``{"accuracy": ...}`` of `parameters` on local data.

        Raises:
            RepositoryError: user code raised or broke the contract.
        """
        self._seed(config, "evaluate")
        say_unused("evaluate", _own(config))
        self.model.load(parameters)
        loss, accuracy, examples = self.model.evaluate()
        return loss, examples, {"accuracy": accuracy}

    def perform(self, task: Task, parameters: Parameters) -> Update | Evaluation:
        """Fit or evaluate, as the task says."""
        config = {**task.config, SEED: task.seed, ROUND: task.round}
        with self.model.workspace.active():  # once for the task; the nested entries cost nothing
            if task.stage == "fit":
                arrays, examples, metrics = self.fit(parameters, config)
                return Update(
                    learner=self.learner,
                    parameters=arrays,
                    examples=examples,
                    metrics=metrics,
                    data=self.data.hash if self.data else "",
                )
            loss, examples, metrics = self.evaluate(parameters, config)
        return Evaluation(learner=self.learner, loss=loss, examples=examples, metrics=metrics)

    def _seed(self, config: Mapping[str, Scalar], stage: str) -> None:
        if SEED in config:
            seed_generators(int(config[SEED]), self.learner, int(config.get(ROUND, 0)), stage)


def _own(config: Mapping[str, Scalar]) -> dict[str, Scalar]:
    """The config entries of the server's strategy, without ours."""
    return {key: value for key, value in config.items() if key not in (SEED, ROUND)}


class ClientWorker:
    """A learner as the wire sees it: a new LearnerClient for each run.

    A model's state outside the parameters comes from its build. So a run with another seed, or a
    second run of the same process, gets a model that is built anew. It then has the same state as
    in a process that starts with that run.

    Args:
        build: Returns the learner with its model built under the given seed.
        timed: Returns a context that is entered for each fit and evaluation, given the stage.
        seed: The seed of the first build; a run with this seed needs no second build.
        alone: Whether no other learner's code runs in this process. Then the learner's modules
            stay in place between tasks, so its code may import lazily, even from its own threads.
    """

    def __init__(
        self,
        build: Callable[[int], LearnerClient],
        timed: Timed = lambda stage: nullcontext(),
        *,
        seed: int = 0,
        alone: bool = False,
    ) -> None:
        self._build = build
        self._timed = timed
        self._alone = alone
        self._place = ExitStack()
        self._seed, self._run_id = seed, ""
        self._client: LearnerClient | None = build(seed)
        self._settle(self._client)
        self.learner = self._client.learner
        self.layout = self._client.model.layout
        self.setup = self._client.setup

    def parameters(self) -> Parameters:
        """The model's current parameters."""
        assert self._client is not None  # only a task of another run drops it
        return self._client.get_parameters({})

    def perform(self, task: Task, parameters: Parameters) -> Update | Evaluation:
        """Fit or evaluate on the local data; raises FlopsError."""
        with self._timed(task.stage):
            return self._client_for(task).perform(task, parameters)

    def close(self) -> None:
        """Leave the learner's workspace: its modules and its working folder."""
        self._place.close()
        if self._client is not None:
            self._client.model.close()
        self._client = None

    def _client_for(self, task: Task) -> LearnerClient:
        of_that_run = self._run_id in ("", task.run_id) and self._seed == task.seed
        if self._client is None or not of_that_run:
            self.close()
            if self._alone:  # models have reference cycles, and two may not fit in memory
                gc.collect()  # with hundreds of learners in a process this would be too slow
            self._run_id = ""  # so that a failed build is tried again
            client = self._build(task.seed)
            difference = self.layout.difference(client.model.layout)
            if difference:
                client.model.close()
                raise RepositoryError(
                    f"ModelManager() gives a model of another layout under seed {task.seed}: "
                    f"{difference}",
                    stage="__init__",
                )
            self._client = client
            self._settle(client)
        self._seed, self._run_id = task.seed, task.run_id
        return self._client

    def _settle(self, client: LearnerClient) -> None:
        if self._alone:
            self._place.enter_context(client.model.workspace.active())
