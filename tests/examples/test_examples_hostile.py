"""Every strategy on the real digits, and the robust ones against a hostile learner."""

import pytest

from examples import hostile
from flops_fl.flower.catalogue import NAMES


@pytest.fixture(scope="module")
def workers(tmp_path_factory):
    return hostile.learners(tmp_path_factory.mktemp("five"))


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    return hostile.learners(tmp_path_factory.mktemp("seven"), 7)


def test_a_mean_is_lost_to_one_hostile_learner(workers):
    assert hostile.accuracy("FedAvg", {}, workers) > 0.9
    assert hostile.accuracy("FedAvg", {}, workers, hostile.HOSTILE) < 0.3


@pytest.mark.parametrize("label", sorted(set(hostile.STRATEGIES) - {"FedAvg"}))
def test_a_robust_strategy_holds_its_accuracy(label, workers):
    name, options = label.partition(" ")[0], hostile.STRATEGIES[label]
    assert hostile.accuracy(name, options, workers, hostile.HOSTILE) > 0.9


@pytest.mark.parametrize("name", sorted({*NAMES} - {"FedProx"}))  # it needs the learners' help
def test_a_strategy_learns_the_digits_in_three_rounds(name, many):
    options = {
        "Bulyan": {"num_malicious_clients": 1},
        "FedAvgM": {"server_momentum": 0.5},
    }
    reached = hostile.accuracy(name, options.get(name, {}), many, rounds=3)
    assert reached > 0.6, f"{name}: {reached}"
