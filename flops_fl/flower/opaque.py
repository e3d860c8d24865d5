"""Strategies for opaque models, which are bytes without a mean.

Flower's `Parameters` are bytes, too. They hold what the ModelManager returns: its ``bytes``, or
its arrays in NumPy's file format, which `flwr.common.parameters_to_ndarrays` reads.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import flwr.server.strategy as flower
import numpy as np
from flwr.common import FitIns, FitRes
from flwr.common import Parameters as FlowerParameters
from flwr.server.client_manager import ClientManager
from flwr.server.client_proxy import ClientProxy

from flops_fl.core.refusals import check_update
from flops_fl.dtypes import OPAQUE
from flops_fl.errors import BadUpdate, FederationError
from flops_fl.flower.strategy import Bound, FlowerStrategy, fit_result
from flops_fl.types import Array, Parameters, Scalar, Update

TAKES_OPAQUE = "takes_opaque"
"""Attribute by which a user's class says whether it is a strategy for opaque models."""


class FlowerOpaque(FlowerStrategy):
    """Strategies that get all updates at once, as bytes (FedXgbCyclic)."""

    def start(self, parameters: Parameters) -> None:
        """See `FlowerStrategy.start`; Flower's FedXgbBagging keeps its forest."""
        if hasattr(self._flower, "global_model"):
            self._flower.global_model = parameters[0].tobytes() or None

    def aggregation(self, round: int, bound: Bound = None) -> OpaqueAggregation:
        """See `FlowerStrategy.aggregation`; bytes have no norm, so `bound` is ignored."""
        return OpaqueAggregation(self, round)


class OpaqueAggregation:
    """The updates of a round, kept until all are there."""

    metrics: Mapping[str, Scalar] = {}

    def __init__(self, strategy: FlowerStrategy, round: int) -> None:
        self._strategy = strategy
        self._round = round
        self._kept: list[tuple[ClientProxy, FitRes]] = []

    def add(self, update: Update) -> None:
        """Keep one update, in learner-id order.

        Raises:
            BadUpdate: it has no bytes, or another number of items than the model.
        """
        check_update(update, self._strategy.layout)
        if not any(array.size for array in update.parameters):
            raise BadUpdate("it is empty: get_model_parameters gave no bytes after fit_model")
        made = as_flower(update.parameters)
        self._kept.append(fit_result(update.learner, made, update.examples, update.metrics))

    def result(self, failures: int) -> list[Array] | None:
        """The model that the strategy makes of the updates; None if the model stays as it is.

        Raises:
            FederationError: it makes none, or one with another number of items.
        """
        made, self.metrics = self._strategy.aggregate(self._round, self._kept, failures)
        if made is None:
            return None
        count, expected = len(made.tensors), len(self._strategy.layout.tensors)
        if count != expected:
            raise FederationError(
                f"strategy {self._strategy.name} made {count} items, expected {expected}"
            )
        return from_flower(made)


def as_flower(parameters: Parameters) -> FlowerParameters:
    """An opaque model as Flower's Parameters."""
    return FlowerParameters(tensors=[array.tobytes() for array in parameters], tensor_type="")


def from_flower(parameters: FlowerParameters) -> list[Array]:
    """Undo `as_flower`."""
    return [np.frombuffer(data, OPAQUE) for data in parameters.tensors]


class Cyclic(flower.FedXgbCyclic):  # type: ignore[misc]
    """Flower's FedXgbCyclic: one learner fits a round, in the order of ids, and all evaluate.

    Flower's class draws a new order each round, so learners do not take turns. It also lets a
    single learner evaluate the model.
    """

    def __init__(self, *, accept_failures: bool = True, **others: Any) -> None:
        if others.get("min_fit_clients", 1) > 1:
            raise ValueError("it asks one learner a round, --min-fit-clients must be 1")
        super().__init__(accept_failures=accept_failures, **others)

    def configure_fit(
        self, server_round: int, parameters: FlowerParameters, client_manager: ClientManager
    ) -> list[tuple[ClientProxy, FitIns]]:
        """See `flwr.server.strategy.FedXgbCyclic`."""
        present = sorted(client_manager.all().items())
        if len(present) < self.min_available_clients:
            return []
        _, proxy = present[(server_round - 1) % len(present)]
        return [(proxy, FitIns(parameters, {}))]

    configure_evaluate = flower.FedAvg.configure_evaluate
