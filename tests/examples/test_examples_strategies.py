"""Every strategy on the real digits, and the robust ones against a hostile learner."""

import pytest

from examples import strategies
from flops_fl.flower.catalogue import FOR_TENSORS


@pytest.fixture(scope="module")
def workers(tmp_path_factory):
    return strategies.learners(tmp_path_factory.mktemp("five"), strategies.ATTACKED)


@pytest.fixture(scope="module", params=strategies.SCHEMES)
def many(request, tmp_path_factory):
    return strategies.learners(tmp_path_factory.mktemp("ten"), 10, request.param)


@pytest.fixture(scope="module")
def by_mean(many):
    return strategies.played("FedAvg", {}, many, strategies.ROUNDS)


def accuracy(name, options, workers, hostile=""):
    return strategies.played(name, options, workers, strategies.ATTACKED, hostile)[-1]


def test_a_mean_is_lost_to_one_hostile_learner(workers):
    assert accuracy("FedAvg", {}, workers) > 0.9
    assert accuracy("FedAvg", {}, workers, strategies.HOSTILE) < 0.3


@pytest.mark.parametrize("label", sorted(set(strategies.ROBUST) - {"FedAvg"}))
def test_a_robust_strategy_holds_its_accuracy(label, workers):
    name, options = label.partition(" ")[0], strategies.ROBUST[label]
    assert accuracy(name, options, workers, strategies.HOSTILE) > 0.9


@pytest.mark.parametrize("name", FOR_TENSORS)
def test_a_strategy_at_its_defaults_comes_close_to_the_mean(name, many, by_mean):
    reached = strategies.played(name, {}, many, strategies.ROUNDS)
    assert reached[-1] > by_mean[-1] - 0.05, reached
    falls = [max(reached[:at]) - reached[at] for at in range(1, len(reached))]
    assert max(falls) < 0.15, reached  # none explodes on its way
