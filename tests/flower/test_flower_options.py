"""The options of strategies: which there are, of which kind, and what is said of mistakes."""

import pytest

from flops_fl.errors import UsageError
from flops_fl.flower.catalogue import UNFIT
from tests.flower.halving import build, start

HALVING = "tests.flower.halving:Halving"


def test_the_order_of_options_and_mistakes_in_them():
    with pytest.raises(UsageError, match="choose from .*FedAdam"):
        build("FedNone", {}, start=start())
    with pytest.raises(UsageError, match=r"no nonsense.*eta, beta_1"):
        build("FedAdam", {"nonsense": 1}, start=start())
    with pytest.raises(UsageError, match="beta"):
        build("FedTrimmedAvg", {"beta": 0.9}, start=start())
    with pytest.raises(UsageError, match="no module 'nowhere' in the repository"):
        build("nowhere:Class", {}, start=start())
    with pytest.raises(UsageError, match="no class or function 'Nothing'"):
        build(f"{__name__}:Nothing", {}, start=start())
    with pytest.raises(UsageError, match=r"gave a list without .*configure_fit.*flwr.server"):
        build("tests.flower.halving:updates", {"model": start(), "round": 1}, start=start())
    for name in ("FedAdam", "FedYogi", "FedAdagrad"):
        with pytest.raises(UsageError, match="learners' own learning rate: set it in"):
            build(name, {"eta_l": 0.1}, start=start())
    with pytest.raises(UsageError, match="is the mean: choose FedAvgM"):
        build("FedOpt", {"eta": 0.1}, start=start())
    with pytest.raises(UsageError, match="FedAvg cannot be built: it takes no eta"):
        build("FedAvg", {"eta": 0.1}, start=start())
    for name in UNFIT:
        with pytest.raises(UsageError, match="does not fit"):
            build(name, {}, start=start())


@pytest.mark.parametrize(
    ("name", "key", "value", "expected"),
    [
        ("FedAdam", "eta", "abc", r"a number \(default: 0.5\)"),
        ("FedAdam", "eta", True, "a number"),
        ("FedProx", "proximal_mu", "x", r"a number \(default: 0.1\)"),
        ("FedTrimmedAvg", "beta", "abc", "a number"),
        ("Krum", "num_malicious_clients", 0.5, "an integer"),
        ("FedAvg", "accept_failures", "abc", "true or false"),
        ("FedAvgM", "accept_failures", 0, "true or false"),
        ("tests.flower.halving:make_halving", "twice", 2, "true or false"),
    ],
)
def test_an_option_is_of_its_defaults_kind(name, key, value, expected):
    options = {"share": 0.5, key: value} if ":" in name else {key: value}
    said = f"cannot be built: {key} is {value!r}, expected {expected}"
    with pytest.raises(UsageError, match=said):
        build(name, options, start=start())


def test_a_sentence_of_flowers_ends_once():
    with pytest.raises(UsageError) as caught:
        build("FedTrimmedAvg", {"beta": 0.9}, start=start())
    assert ".." not in str(caught.value)


def test_all_options_are_known_with_those_that_were_not_given():
    assert build("FedTrimmedAvg", {}, start=start()).options == {
        "accept_failures": True,
        "beta": 0.2,
    }
    assert build("FedAvgM", {"server_momentum": 0.5}, start=start()).options == {
        "accept_failures": True,
        "server_learning_rate": 0.3,
        "server_momentum": 0.5,
    }
    made = build("tests.flower.halving:make_halving", {"share": 0.5}, start=start())
    assert made.options == {"share": 0.5, "twice": False}
    halving = build(HALVING, {"share": 0.5, "min_fit_clients": 2}, start=start())
    assert halving.options == {"share": 0.5}
