"""Strategies of a user's own: every hook of Flower's Strategy is called, with real parameters.

They are called in the order of Flower's server (`flwr.server.Server.fit`), on a thread, so that
they may take their time. What our rounds cannot keep is an error that names it.
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

log = logging.getLogger(__name__)

HOOKS = (
    "initialize_parameters",
    "configure_fit",
    "aggregate_fit",
    "configure_evaluate",
    "aggregate_evaluate",
    "evaluate",
)
_LARGEST = 1 << 63  # as protobuf's sint64 has it


class _Own(FlowerStrategy):
    """All hooks of an object of the user's own."""

    foreign = True
    takes_config = True
    """Whether the native learners' fit_model takes an argument config."""

    def initial(self, parameters: Parameters) -> Parameters:
        """What its `initialize_parameters` gives, unless that is None.

        Raises:
            UsageError: it fails, or gives a model of another layout.
        """
        nobody = SeededCohort([], self._seed, 0, "fit")  # learners come later
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
        """A whole model that its code has made."""
        raise NotImplementedError

    def told(self, learner: str, ins: Any, shown: FlowerParameters) -> dict[str, Scalar]:
        """See `FlowerStrategy.told`.

        Raises:
            FederationError: it is to get another model than all others, or what no message can
                carry.
        """
        if ins.parameters is not shown and ins.parameters.tensors != shown.tensors:
            raise FederationError(
                f"strategy {self.name} gives learner {learner} other parameters than the global "
                "model: here all get the same"
            )
        return {name: self._carried(name, value) for name, value in ins.config.items()}

    def _carried(self, name: Any, value: Any) -> Scalar:
        known = value.item() if isinstance(value, np.generic) else value
        fits = not isinstance(known, int) or -_LARGEST <= known < _LARGEST
        if not (isinstance(name, str) and isinstance(known, Scalar) and fits):
            raise FederationError(
                f"strategy {self.name} puts {name!r:.60}: {value!r:.60} into a config: expected a "
                "text, and a bool, int of 64 bits, float, str or bytes"
            )
        return known

    def took_none(self, round: int, results: int, failures: int) -> None:
        """As with Flower's server, the model stays as it is."""
        log.warning(
            "strategy %s made no model of round %d's %d updates with %d failures: the global model "
            "stays as it is", self.name, round, results, failures,
        )  # fmt: skip

    def evaluate(self, round: int, parameters: Parameters) -> Judgement | None:
        """See `core.aggregation.Strategy`, as of all methods."""
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
        """What its `aggregate_evaluate` makes of them."""
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
    """A class for arrays: it is given all of them, as by Flower's server.

    What it makes of integers does not count: Flower's own mean of them is 0, since it rounds the
    learners' shares (`flwr.server.strategy.aggregate.aggregate_inplace`). They keep ours.
    """

    @property
    def indices(self) -> list[int]:
        """Of all tensors."""
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
    """A class for opaque models."""

    def shown(self, parameters: Parameters) -> FlowerParameters:
        """The global model's bytes."""
        return as_flower(parameters)

    def read(self, made: FlowerParameters, like: Parameters) -> list[Array]:
        """See `_Own.read`."""
        return from_flower(made)
