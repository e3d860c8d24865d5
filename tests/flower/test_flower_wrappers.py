"""Strategies that wrap another one, built by a function of the user's."""

import flwr.server.strategy as flower
import numpy as np
import pytest
from flwr.common import ndarrays_to_parameters

from flops_fl.errors import FederationError
from flops_fl.types import Update
from tests.flower.test_flower_hooks import build


def private():
    inner = flower.FedAdam(initial_parameters=ndarrays_to_parameters(FLOATS), eta=0.1)
    return flower.DifferentialPrivacyServerSideFixedClipping(inner, 0.0, 0.1, 2)


FLOATS = [np.zeros(3, np.float32)]


def test_a_wrapper_built_by_a_function_clips_and_both_are_taken_up_again():
    strategy = build("private", start=FLOATS, module=__name__)
    model = strategy.initial(FLOATS)
    for round in (1, 2):
        strategy.choose(round, "fit", ["a", "b"], model)
        model = step(strategy, round)
    assert 0 < np.linalg.norm(model[0]) < 1  # of updates of 10
    resumed = build("private", start=FLOATS, module=__name__)
    resumed.restore(strategy.state())
    for one in (strategy, resumed):
        one.choose(3, "fit", ["a", "b"], model)
    assert step(strategy, 3)[0].tobytes() == step(resumed, 3)[0].tobytes()


def adaptive():
    inner = flower.FedAvg(initial_parameters=ndarrays_to_parameters(FLOATS))
    return flower.DifferentialPrivacyClientSideAdaptiveClipping(inner, 0.0, 2)


def test_clipping_by_the_learners_hears_from_them_whether_they_clipped():
    strategy = build("adaptive", start=FLOATS, module=__name__)
    norms = []
    for round in (1, 2):
        told = strategy.choose(round, "fit", ["a", "b"], FLOATS)
        norms.append(told["a"]["clipping_norm"])
        step(strategy, round, {"norm_bit": True})
    assert norms[1] < norms[0]  # all were within it
    with pytest.raises(FederationError, match="in round 3 with 2 updates .KeyError"):
        step(strategy, 3)


def step(strategy, round, metrics=None):
    aggregation = strategy.aggregation(round)
    for name in "ab":
        sent = [np.full(3, 10.0, np.float32)]
        update = Update(learner=name, parameters=sent, examples=1, metrics=metrics or {})
        aggregation.add(update)
    return aggregation.result(0)
