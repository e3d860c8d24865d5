"""Flower's strategies: the same results as Flower's own classes, types and statistics kept."""

import flwr.server.strategy as flower
import ml_dtypes
import numpy as np
import pytest
from flwr.common import Code, FitRes, Status, ndarrays_to_parameters, parameters_to_ndarrays

from flops_fl.errors import FederationError, UsageError
from flops_fl.flower.strategy import KEPT, MEANS, OPTIMISERS, UNFIT, Strategy
from flops_fl.types import Update

OPTIONS = {
    "FedProx": {"proximal_mu": 0.1},
    "FedAvgM": {"server_momentum": 0.9, "server_learning_rate": 0.5},
    "FedTrimmedAvg": {"beta": 0.2},
    "Krum": {"num_malicious_clients": 1, "num_clients_to_keep": 2},
    "Bulyan": {"num_malicious_clients": 1, "to_keep": 0},
}
LEARNERS = 7


def start(dtype="<f4"):
    rng = np.random.default_rng(0)
    return [rng.normal(size=(4, 3)).astype(dtype), np.array(10), rng.normal(size=5).astype(dtype)]


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


def play(strategy, round, given):
    aggregation = strategy.aggregation(round)
    for update in given:
        aggregation.add(update)
    return aggregation.result(0)


@pytest.mark.parametrize("name", ["FedAvg", "FedAdam", "FedMedian"])
def test_narrow_floats_keep_their_dtype_under_each_kind_of_strategy(name):
    model = [np.ones((2, 3), ml_dtypes.bfloat16), np.array(10)]
    moved = [np.full((2, 3), 1.5, ml_dtypes.bfloat16), np.array(10)]
    strategy = Strategy(name, {}, seed=0, initial=model)
    new = play(strategy, 1, [Update(learner=x, parameters=moved, examples=1) for x in "ab"])
    assert [array.dtype for array in new] == [array.dtype for array in model]
    assert (new[0] > 1).all()


@pytest.mark.parametrize("name", [*MEANS, *OPTIMISERS, *KEPT])
def test_three_rounds_equal_flowers_own_class(name):
    model = start()
    ours = Strategy(name, OPTIONS.get(name, {}), seed=0, initial=model)
    floats = [0, 2]
    arguments = dict(OPTIONS.get(name, {}))
    if name not in ("Bulyan", "FedMedian", "FedTrimmedAvg", "Krum"):
        arguments["initial_parameters"] = ndarrays_to_parameters([model[i] for i in floats])
    theirs = getattr(flower, name)(**arguments)
    for round in (1, 2, 3):
        given = updates(model, round)
        results = [
            (
                None,
                FitRes(
                    Status(Code.OK, ""),
                    ndarrays_to_parameters([u.parameters[i] for i in floats]),
                    u.examples,
                    {},
                ),
            )
            for u in given
        ]
        expected, _ = theirs.aggregate_fit(round, results, [])
        model = play(ours, round, given)
        assert model[1].dtype == np.int64
        assert model[1] == 10
        for index, array in zip(floats, parameters_to_ndarrays(expected), strict=True):
            assert model[index].dtype == np.float32
            np.testing.assert_allclose(model[index], array, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", [*OPTIMISERS, "FedMedian"])
def test_a_strategy_taken_up_again_goes_on_as_if_nothing_had_been(name):
    options = OPTIONS.get(name, {})
    whole, model = Strategy(name, options, seed=0, initial=start()), start()
    for round in (1, 2):
        model = play(whole, round, updates(model, round))
    resumed = Strategy(name, options, seed=0, initial=start())
    resumed.restore(whole.state())
    given = updates(model, 3)
    for one, other in zip(play(whole, 3, given), play(resumed, 3, given), strict=True):
        assert one.tobytes() == other.tobytes()


@pytest.mark.parametrize("name", OPTIMISERS)
def test_no_optimiser_touches_what_is_measured(name):
    model = start()
    strategy = Strategy(name, OPTIONS.get(name, {}), seed=0, initial=model, statistics={2})
    given = updates(model, 1)
    result = play(strategy, 1, given)
    mean = np.average([u.parameters[2] for u in given], axis=0, weights=[u.examples for u in given])
    np.testing.assert_allclose(result[2], mean, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["Krum", "FedTrimmedAvg", "FedMedian", "Bulyan"])
def test_one_hostile_learner_moves_the_mean_but_not_a_robust_strategy(name):
    model = start()
    given = updates(model, 1, hostile=1)
    robust = play(Strategy(name, OPTIONS.get(name, {}), seed=0, initial=model), 1, given)
    mean = play(Strategy("FedAvg", {}, seed=0, initial=model), 1, given)
    assert np.abs(robust[0] - model[0]).max() < 1
    assert np.abs(mean[0] - model[0]).max() > 10


def test_the_order_of_options_and_mistakes_in_them():
    with pytest.raises(UsageError, match="choose from .*FedAdam"):
        Strategy("FedNone", {}, seed=0, initial=start())
    with pytest.raises(UsageError, match=r"no nonsense.*eta, eta_l, beta_1"):
        Strategy("FedAdam", {"nonsense": 1}, seed=0, initial=start())
    with pytest.raises(UsageError, match="proximal_mu"):
        Strategy("FedProx", {}, seed=0, initial=start())
    with pytest.raises(UsageError, match="beta"):
        Strategy("FedTrimmedAvg", {"beta": 0.9}, seed=0, initial=start())
    with pytest.raises(UsageError, match="MODULE:CLASS"):
        Strategy("nowhere:Class", {}, seed=0, initial=start())
    for name in UNFIT:
        with pytest.raises(UsageError, match="does not fit"):
            Strategy(name, {}, seed=0, initial=start())


def test_a_class_of_the_users_own():
    strategy = Strategy(f"{__name__}:Halving", {"share": 0.5}, seed=0, initial=start())
    given = updates(start(), 1)
    np.testing.assert_allclose(play(strategy, 1, given)[0], given[0].parameters[0] * 0.5)


def test_a_strategy_that_fails_is_named():
    strategy = Strategy(f"{__name__}:Halving", {"share": None}, seed=0, initial=start())
    with pytest.raises(FederationError, match=r"Halving failed in round 1 with 7 updates"):
        play(strategy, 1, updates(start(), 1))


class Halving(flower.FedAvg):
    """The first update times a share."""

    def __init__(self, share, **options):
        super().__init__(**options)
        self.share = share

    def aggregate_fit(self, server_round, results, failures):
        arrays = parameters_to_ndarrays(results[0][1].parameters)
        return ndarrays_to_parameters([a * self.share for a in arrays]), {}
