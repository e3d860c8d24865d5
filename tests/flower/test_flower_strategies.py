"""Flower's strategies: the same results as Flower's own classes, types and statistics kept."""

import flwr.server.strategy as flower
import ml_dtypes
import numpy as np
import pytest
from flwr.common import (
    Code,
    FitRes,
    Parameters,
    Status,
    ndarrays_to_parameters,
    parameters_to_ndarrays,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from flops_fl.errors import FederationError
from flops_fl.flower.catalogue import CATALOGUE, FOR_TENSORS
from flops_fl.flower.kinds import FlowerOptimiser
from flops_fl.types import Update
from tests.flower.halving import build, play, start, updates

HALVING = "tests.flower.halving:Halving"

OPTIONS = {
    "FedProx": {"proximal_mu": 0.1},
    "FedAvgM": {"server_momentum": 0.9, "server_learning_rate": 0.5},
    "FedTrimmedAvg": {"beta": 0.2},
    "Krum": {"num_malicious_clients": 1, "num_clients_to_keep": 2},
    "Bulyan": {"num_malicious_clients": 1, "to_keep": 0},
}
OPTIMISERS = [name for name, entry in CATALOGUE.items() if entry.kind is FlowerOptimiser]


@pytest.mark.parametrize("name", ["FedAvg", "FedAdam", "FedMedian"])
def test_narrow_floats_keep_their_dtype_under_each_kind_of_strategy(name):
    model = [np.ones((2, 3), ml_dtypes.bfloat16), np.array(10)]
    moved = [np.full((2, 3), 1.5, ml_dtypes.bfloat16), np.array(10)]
    strategy = build(name, {}, start=model)
    new = play(strategy, 1, [Update(learner=x, parameters=moved, examples=1) for x in "ab"])
    assert [array.dtype for array in new] == [array.dtype for array in model]
    assert (new[0] > 1).all()


@pytest.mark.parametrize("name", OPTIMISERS)
def test_an_optimiser_steps_from_the_model_that_it_is_told_to_start_from(name):
    """As the root's, which a cluster did not make."""
    model = start()
    roots = [array + 1 for array in model]
    expected = play(build(name, {}, start=roots), 1, updates(roots, 1))
    strategy = build(name, {}, start=model)
    strategy.start(roots)
    for ours, theirs in zip(play(strategy, 1, updates(roots, 1)), expected, strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("name", FOR_TENSORS)
def test_three_rounds_equal_flowers_own_class(name):
    model = start()
    ours = build(name, OPTIONS.get(name, {}), start=model)
    floats = [0, 2]
    defaults = dict(CATALOGUE[name].defaults) if name in CATALOGUE else {}
    arguments = defaults | OPTIONS.get(name, {})
    if name not in ("Bulyan", "FedMedian", "FedTrimmedAvg", "Krum"):
        arguments["initial_parameters"] = ndarrays_to_parameters([model[i] for i in floats])
    theirs = getattr(flower, name)(**arguments)
    for round in (1, 2, 3):
        sent = updates(model, round)
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
            for u in sent
        ]
        expected, _ = theirs.aggregate_fit(round, results, [])
        model = play(ours, round, sent)
        assert model[1].dtype == np.int64
        assert model[1] == 10
        for index, array in zip(floats, parameters_to_ndarrays(expected), strict=True):
            assert model[index].dtype == np.float32
            np.testing.assert_allclose(model[index], array, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", [*OPTIMISERS, "FedMedian"])
def test_a_strategy_taken_up_again_goes_on_as_if_nothing_had_been(name):
    options = OPTIONS.get(name, {})
    whole, model = build(name, options, start=start()), start()
    for round in (1, 2):
        model = play(whole, round, updates(model, round))
    resumed = build(name, options, start=start())
    resumed.restore(whole.state())
    sent = updates(model, 3)
    for one, other in zip(play(whole, 3, sent), play(resumed, 3, sent), strict=True):
        assert one.tobytes() == other.tobytes()


@pytest.mark.parametrize("name", OPTIMISERS)
def test_no_optimiser_touches_what_is_measured(name):
    model = start()
    strategy = build(name, OPTIONS.get(name, {}), start=model, statistics={2})
    sent = updates(model, 1)
    result = play(strategy, 1, sent)
    mean = np.average([u.parameters[2] for u in sent], axis=0, weights=[u.examples for u in sent])
    np.testing.assert_allclose(result[2], mean, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["Krum", "FedTrimmedAvg", "FedMedian", "Bulyan"])
def test_one_hostile_learner_moves_the_mean_but_not_a_robust_strategy(name):
    model = start()
    sent = updates(model, 1, hostile=1)
    robust = play(build(name, OPTIONS.get(name, {}), start=model), 1, sent)
    mean = play(build("FedAvg", {}, start=model), 1, sent)
    assert np.abs(robust[0] - model[0]).max() < 1
    assert np.abs(mean[0] - model[0]).max() > 10


def test_a_class_of_the_users_own():
    strategy = build(HALVING, {"share": 0.5}, start=start())
    sent = updates(start(), 1)
    np.testing.assert_allclose(play(strategy, 1, sent)[0], sent[0].parameters[0] * 0.5)


def test_a_strategy_that_fails_is_named():
    strategy = build(HALVING, {"share": None}, start=start())
    with pytest.raises(FederationError, match=r"Halving failed in round 1 with 7 updates"):
        play(strategy, 1, updates(start(), 1))
    with pytest.raises(FederationError, match=r"Reshaping made arrays of the shapes .*expected"):
        play(build(f"{__name__}:Reshaping", {}, start=start()), 1, updates(start(), 1))


@pytest.mark.parametrize(
    ("what", "said"),
    [
        ("list", r"returned a list that holds no arrays .*expected flwr.common.ndarrays_to"),
        ("garbage", r"returned a Parameters that holds no arrays .*ValueError"),
        ("exit", r"failed in round 1 with 7 updates \(SystemExit: 0, "),
    ],
)
def test_whatever_aggregate_fit_does_is_one_sentence(what, said):
    strategy = build(f"{__name__}:Returning", {"what": what}, start=start())
    with pytest.raises(FederationError, match=said):
        play(strategy, 1, updates(start(), 1))


@pytest.mark.parametrize(
    ("name", "options"),
    [("FedAdam", {"eta": 1e300}), ("FedAvgM", {"server_learning_rate": 1e300}), ("Halving", {})],
)
def test_a_model_that_is_not_finite_fails_the_round_and_not_in_silence(name, options):
    if name == "Halving":
        name, options = HALVING, {"share": np.inf}
    strategy = build(name, options, start=start())
    with np.errstate(all="ignore"), pytest.raises(FederationError) as caught:
        play(strategy, 1, updates(start(), 1))
    assert f"strategy {name} made NaN or infinite values (tensor 0, " in str(caught.value)


@pytest.mark.parametrize("stage", ["fit", "evaluate"])
@settings(deadline=None)
@given(
    present=st.integers(0, 12),
    share=st.sampled_from([0.0, 0.2, 0.5, 0.99, 1.0]),
    fewest=st.integers(1, 6),
    available=st.integers(1, 6),
    round=st.integers(1, 3),
)
def test_cores_own_federated_averaging_asks_whom_flowers_asks(
    stage, present, share, fewest, available, round
):
    options = {
        "fraction_fit": share,
        "fraction_evaluate": share,
        "min_fit_clients": fewest,
        "min_evaluate_clients": fewest,
        "min_available_clients": available,
    }
    learners = [f"l{number}" for number in range(present)]
    ours, theirs = (build(name, options, start()) for name in ("FedAvg", "FaultTolerantFedAvg"))
    asked = (round, stage, learners, [])
    assert ours.choose(*asked) == theirs.choose(*asked)


class Reshaping(flower.FedAvg):
    """Makes something else than it was sent."""

    def aggregate_fit(self, server_round, results, failures):
        return ndarrays_to_parameters([np.zeros(3)]), {}


class Returning(flower.FedAvg):
    """Makes what is no Parameters of arrays, or ends the process."""

    def __init__(self, what, **options):
        super().__init__(**options)
        self.what = what

    def aggregate_fit(self, server_round, results, failures):
        if self.what == "exit":
            raise SystemExit(0)
        arrays = [np.zeros(3, np.float32)]
        garbage = Parameters(tensors=[b"garbage"], tensor_type="numpy.ndarray")
        return {"list": arrays, "garbage": garbage}[self.what], {}
