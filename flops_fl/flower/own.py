"""Strategies that users write: we call every hook of Flower's Strategy, with real parameters.

The order is that of Flower's server (`flwr.server.Server.fit`). A thread calls the hooks, so they
may take long. If a hook asks for something that our rounds cannot do, an error names it.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from flwr.common import Code, EvaluateRes, Status
from flwr.common import Parameters as FlowerParameters

from flops_fl.core.aggregation import Judgement
from flops_fl.errors import FederationError, UsageError
from flops_fl.flower.kinds import FlowerChoice
from flops_fl.flower.opaque import FlowerOpaque, as_flower, from_flower
from flops_fl.flower.selection import Named, SeededCohort
from flops_fl.flower.strategy import FlowerStrategy, as_parameters
from flops_fl.flower.values import recordable
from flops_fl.types import Array, Evaluation, Layout, Parameters, Scalar
from flops_fl.wire.codec import LONGEST_TEXT

log = logging.getLogger(__name__)

HOOKS = (
    "initialize_parameters",
    "configure_fit",
    "aggregate_fit",
    "configure_evaluate",
    "aggregate_evaluate",
    "evaluate",
)
_LARGEST = 1 << 63  # protobuf's sint64 ends below it
_MOST = 1 << 20  # bytes of a config: with a small model they fit into one message


class _Own(FlowerStrategy):
    """A user's object with all of Flower's hooks."""

    foreign = True
    takes_config = True
    """Whether the native learners' fit_model takes an argument config."""

    def initial(self, parameters: Parameters) -> Parameters:
        """The model of its `initialize_parameters`; the repository's if that returns None.

        Raises:
            UsageError: the hook fails, or returns a model of another layout.
        """
        nobody = SeededCohort([], self._seed, 0, "fit")  # no learner has joined yet
        try:
            with self.called("in initialize_parameters"):
                made = self._flower.initialize_parameters(nobody)
                found = parameters if made is None else self.read(made, parameters)
        except FederationError as error:
            raise UsageError(f"no initial model: {error}") from error
        difference = self.layout.difference(Layout.of(found))
        if difference:
            raise UsageError(
                f"no initial model: initialize_parameters of strategy {self.name} gives "
                f"{difference} (the repository's ModelManager has these)"
            )
        return found

    def read(self, made: FlowerParameters, like: Parameters) -> list[Array]:
        """The whole model that the user's code has made."""
        raise NotImplementedError

    def told(self, learner: str, ins: Any, shown: FlowerParameters) -> dict[str, Scalar]:
        """See `FlowerStrategy.told`.

        Raises:
            FederationError: the strategy gives this learner a model of its own, or a config
                value that no message can carry.
        """
        if ins.parameters is not shown and ins.parameters.tensors != shown.tensors:
            raise FederationError(
                f"strategy {self.name} gives learner {learner} other parameters than the global "
                "model: flops-fl sends the same model to all learners"
            )
        config = {name: self._carried(name, value) for name, value in ins.config.items()}
        size = sum(_size(name) + _size(value) for name, value in config.items())
        if size > _MOST:
            raise FederationError(
                f"strategy {self.name} makes a config of {size} bytes, expected at most {_MOST}: "
                "a config is for settings; give learners other data with their repository"
            )
        return config

    def _carried(self, name: Any, value: Any) -> Scalar:
        known = value.item() if isinstance(value, np.generic) else value
        fits = not isinstance(known, int) or -_LARGEST <= known < _LARGEST
        fits = fits and not any(isinstance(x, str) and len(x) > LONGEST_TEXT for x in (name, known))
        if not (isinstance(name, str) and isinstance(known, Scalar) and fits):
            raise FederationError(
                f"strategy {self.name} puts {name!r:.60}: {value!r:.60} into a config: expected a "
                "str as the key, and a bool, int of 64 bits, float, str or bytes as the value; a "
                f"str has at most {LONGEST_TEXT} characters"
            )
        return known

    def took_none(self, round: int, results: int, failures: int) -> None:
        """As with Flower's server, the model stays as it is."""
        log.warning(
            "strategy %s made no model of round %d's %d updates with %d failures: the global model "
            "stays as it is", self.name, round, results, failures,
        )  # fmt: skip

    def evaluate(self, round: int, parameters: Parameters) -> Judgement | None:
        """See `core.aggregation.Strategy`."""
        with self.called(f"in evaluate of round {round}"):
            found = self._flower.evaluate(round, self.shown(parameters))
            if found is None:
                return None
            judged = self._judgement("evaluate", *found)
        if judged.missing:
            log.warning("round %d: %s", round, judged.missing)
        return judged

    def judge(
        self, round: int, evaluations: Sequence[Evaluation], failures: int
    ) -> Judgement | None:
        """The loss and metrics that its `aggregate_evaluate` makes of the evaluations."""
        refused = super().judge(round, evaluations, failures)
        if refused is not None:
            return refused
        status = Status(code=Code.OK, message="")
        results = [
            (Named(e.learner), EvaluateRes(status, e.loss, e.examples, dict(e.metrics)))
            for e in evaluations
        ]
        missing = [RuntimeError("no evaluation")] * failures
        with self.called(f"in aggregate_evaluate of round {round}"):
            loss, metrics = self._flower.aggregate_evaluate(round, results, missing)
            return self._judgement("aggregate_evaluate", loss, metrics)

    def _judgement(self, hook: str, loss: Any, metrics: Any) -> Judgement:
        known = None if loss is None else float(loss)
        missing = ""
        if known is None or not math.isfinite(known):
            missing = f"{hook} of strategy {self.name} gave {known} for the loss"
            known = None
        return Judgement(known, recordable(metrics), missing)


class FlowerOwn(_Own, FlowerChoice):
    """A user's strategy for arrays; it gets all tensors, as from Flower's server.

    What it makes of integers does not count: they get our weighted mean. Flower's own mean of
    integers is 0, since it rounds each learner's weight to an integer
    (`flwr.server.strategy.aggregate.aggregate_inplace`).
    """

    @property
    def indices(self) -> list[int]:
        """Indices of all tensors."""
        return list(range(len(self.layout.tensors)))

    def shown(self, parameters: Parameters) -> FlowerParameters:
        """The global model."""
        return as_parameters(parameters)

    def read(self, made: FlowerParameters, like: Parameters) -> list[Array]:
        """See `_Own.read`."""
        arrays = list(like)
        self.put(made, arrays, self.indices)
        return arrays


class FlowerOwnOpaque(_Own, FlowerOpaque):
    """A user's strategy for opaque models."""

    def shown(self, parameters: Parameters) -> FlowerParameters:
        """The global model's bytes."""
        return as_flower(parameters)

    def read(self, made: FlowerParameters, like: Parameters) -> list[Array]:
        """See `_Own.read`."""
        return from_flower(made)


def _size(value: Scalar) -> int:
    """Bytes of a text or of bytes; 8 for a number."""
    if isinstance(value, str):
        return len(value.encode(errors="replace"))
    return len(value) if isinstance(value, bytes) else 8
