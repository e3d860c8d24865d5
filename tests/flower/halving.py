"""Rounds of a strategy with updates made of numbers; a strategy of a user's own."""

import flwr.server.strategy as flower
import numpy as np
from flwr.common import (
    ndarrays_to_parameters,
    parameters_to_ndarrays,
)

from flops_fl.flower.building import strategy_called
from flops_fl.types import Layout, Update

LEARNERS = 7


def start(dtype="<f4"):
    rng = np.random.default_rng(0)
    return [rng.normal(size=(4, 3)).astype(dtype), np.array(10), rng.normal(size=5).astype(dtype)]


def build(name, options, start, statistics=()):
    layout = Layout.of(start)
    return strategy_called(
        name, options, seed=0, layout=layout, initial=lambda: start, statistics=statistics
    )


def updates(model, round, hostile=0):
    rng = np.random.default_rng(round)
    out = []
    for number in range(LEARNERS):
        step = 1e3 if number < hostile else 0.1
        moved = [
            p + np.asarray(rng.normal(size=p.shape) * step, p.dtype) if p.dtype.kind == "f" else p
            for p in model
        ]
        out.append(Update(learner=f"l{number}", parameters=moved, examples=10 + number))
    return out


def play(strategy, round, sent):
    aggregation = strategy.aggregation(round)
    for update in sent:
        aggregation.add(update)
    return aggregation.result(0)


def make_halving(share, twice=False):
    return Halving(share / 2 if twice else share)


class Halving(flower.FedAvg):
    """The first update times a share."""

    def __init__(self, share, **options):
        super().__init__(**options)
        self.share = share

    def aggregate_fit(self, server_round, results, failures):
        arrays = parameters_to_ndarrays(results[0][1].parameters)
        return ndarrays_to_parameters([a * self.share for a in arrays]), {}
