"""Strategies for models that have no mean."""

import json
import sys

import flwr.server.strategy as flower
import numpy as np
import pytest
from flwr.common import Parameters

from flops_fl.dtypes import OPAQUE
from flops_fl.errors import BadUpdate, FederationError, UsageError
from flops_fl.flower.building import strategy_called
from flops_fl.flower.catalogue import FOR_OPAQUE, FOR_TENSORS
from flops_fl.types import Layout, Update, parameters_sha256


def opaque(*items):
    return [np.frombuffer(item, OPAQUE) for item in items]


def build(name, options=None, start=(b"",)):
    model = opaque(*start)
    return strategy_called(
        name, options or {}, seed=0, layout=Layout.of(model), initial=lambda: model
    )


def play(strategy, round, *updates):
    aggregation = strategy.aggregation(round)
    for number, items in enumerate(updates):
        aggregation.add(Update(learner=f"l{number}", parameters=opaque(*items), examples=3))
    return [array.tobytes() for array in aggregation.result(0)]


class Longest(flower.FedAvg):
    """The longest of the models, and how many rounds it was that."""

    takes_opaque = True

    def __init__(self, prefix="", **options):
        super().__init__(**options)
        self.prefix, self.best = prefix.encode(), b""

    def aggregate_fit(self, server_round, results, failures):
        found = [result.parameters.tensors[0] for _, result in results]
        self.best = max([self.best, *found], key=len)
        return Parameters(tensors=[self.prefix + self.best], tensor_type=""), {}


class Twins(Longest):
    def aggregate_fit(self, server_round, results, failures):
        return Parameters(tensors=[b"a", b"b"], tensor_type=""), {}


def test_a_class_of_the_users_own_gets_bytes_and_gives_bytes():
    strategy = build(f"{__name__}:Longest", {"prefix": "the "})
    assert play(strategy, 1, (b"short",), (b"the longest",)) == [b"the the longest"]
    assert strategy.options["prefix"] == "the "
    resumed = build(f"{__name__}:Longest", {"prefix": "the "})
    resumed.restore(strategy.state())
    assert play(resumed, 2, (b"x",)) == play(strategy, 2, (b"x",)) == [b"the the longest"]


def test_an_update_without_bytes_or_with_more_items_is_refused():
    aggregation = build("FedXgbCyclic").aggregation(1)
    for parameters, said in (
        (opaque(b""), "it is empty"),
        (opaque(b"a", b"b"), "2 tensors, expected 1"),
        ([np.zeros(3)], "tensor 0 is float64"),
    ):
        with pytest.raises(BadUpdate, match=said):
            aggregation.add(Update(learner="a", parameters=parameters, examples=1))
    with pytest.raises(FederationError, match="made 2 items, expected 1"):
        play(build(f"{__name__}:Twins"), 1, (b"x",))


def test_strategies_and_models_that_do_not_go_together_are_refused_by_name():
    for name in FOR_TENSORS:
        with pytest.raises(UsageError, match="needs a mean.*FedXgbBagging or FedXgbCyclic"):
            build(name)
    with pytest.raises(UsageError, match="needs a mean.*takes_opaque = True"):
        build("flwr.server.strategy:FedMedian")
    plain = [np.zeros(3, np.float32)]
    for name in (*FOR_OPAQUE, f"{__name__}:Longest", "flwr.server.strategy:FedXgbBagging"):
        with pytest.raises(UsageError, match="is for opaque models.*choose from FedAvg"):
            strategy_called(name, {}, seed=0, layout=Layout.of(plain), initial=lambda: plain)


def test_turns_are_taken_in_id_order_and_all_evaluate():
    strategy, names = build("FedXgbCyclic", {"min_available_clients": 2}), ["c", "a", "b"]
    assert [list(strategy.choose(round, "fit", names, [])) for round in (1, 2, 3, 4)] == [
        ["a"], ["b"], ["c"], ["a"],
    ]  # fmt: skip
    assert list(strategy.choose(1, "evaluate", names, [])) == ["a", "b", "c"]
    assert strategy.choose(1, "fit", ["a"], []) == {}
    assert play(strategy, 1, (b"forest",)) == [b"forest"]
    with pytest.raises(UsageError, match="asks one learner a round, --min-fit-clients must be 1"):
        build("FedXgbCyclic", {"min_fit_clients": 2})


# -- bagging ---------------------------------------------------------------------------------

BINARY = {"objective": "binary:logistic", "max_depth": 2, "base_score": 0.5}
CLASSES = {"objective": "multi:softprob", "num_class": 3, "max_depth": 2, "base_score": 0.5}


def grown(parameters, seed, forest=b"", rounds=1):
    """New trees of a learner, as a repository's ModelManager sends them."""
    xgboost = pytest.importorskip("xgboost")
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(60, 4))
    labels = rng.integers(0, parameters.get("num_class", 2), 60)
    before = xgboost.Booster(model_file=bytearray(forest)) if forest else None
    booster = xgboost.train(parameters, xgboost.DMatrix(rows, labels), rounds, xgb_model=before)
    return bytes(booster[booster.num_boosted_rounds() - rounds :].save_raw("json"))


def loaded(forest):
    return sys.modules["xgboost"].Booster(model_file=bytearray(forest))


def test_bagging_is_flowers_own_for_a_tree_an_update():
    strategy, theirs = build("FedXgbBagging"), flower.FedXgbBagging()
    forest = b""
    for round in (1, 2, 3):
        updates = [grown(BINARY, 10 * round + n, forest) for n in range(3)]
        results = [
            (None, type("Result", (), {"parameters": Parameters([update], "")}))
            for update in updates
        ]
        expected, _ = theirs.aggregate_fit(round, results, [])
        (forest,) = play(strategy, round, *[(update,) for update in updates])
        assert json.loads(forest) == json.loads(expected.tensors[0])
    assert loaded(forest).num_boosted_rounds() == 9


def test_bagging_takes_the_trees_of_all_classes_and_of_all_boosting_rounds():
    updates = [grown(CLASSES, seed, rounds=2) for seed in range(2)]
    (forest,) = play(build("FedXgbBagging"), 1, *[(update,) for update in updates])
    booster = loaded(forest)
    assert booster.num_boosted_rounds() == 4
    assert len(booster.get_dump()) == 12
    rows = sys.modules["xgboost"].DMatrix(np.random.default_rng(9).normal(size=(20, 4)))
    total = sum(loaded(u).predict(rows, output_margin=True) - 0.5 for u in updates) + 0.5
    np.testing.assert_allclose(booster.predict(rows, output_margin=True), total, atol=1e-5)


def test_bagging_goes_on_with_a_forest_and_says_how_many_learners_there_are():
    first = grown(BINARY, 1)
    strategy = build("FedXgbBagging", start=(first,))
    (forest,) = play(strategy, 1, (grown(BINARY, 2, first),))
    assert loaded(forest).num_boosted_rounds() == 2
    resumed = build("FedXgbBagging", start=(first,))
    resumed.restore(strategy.state())
    update = grown(BINARY, 3, forest)
    assert play(resumed, 2, (update,)) == play(strategy, 2, (update,))
    chosen = strategy.choose(1, "fit", ["a", "b", "c"], [])
    assert chosen == {name: {"learners": 3} for name in "abc"}
    with pytest.raises(UsageError, match="the initial model is 7 bytes that are no XGBoost"):
        build("FedXgbBagging", start=(b"nothing",))
    with pytest.raises(UsageError, match="takes one item of bytes, not 2"):
        build("FedXgbBagging", start=(b"", b""))


def changed(update, change):
    booster = json.loads(update)
    change(booster["learner"]["gradient_booster"]["model"])
    return json.dumps(booster).encode()


BAD_TREES = {
    "weights that are not finite": lambda m: m["trees"][0]["base_weights"].__setitem__(0, 1e999),
    "a circle": lambda m: m["trees"][0]["left_children"].__setitem__(0, 0),
    "a child of two": lambda m: m["trees"][0]["right_children"].__setitem__(0, 1),
    "no such node": lambda m: m["trees"][0]["left_children"].__setitem__(0, 99),
    "no such feature": lambda m: m["trees"][0]["split_indices"].__setitem__(0, 4),
    "nodes that are missing": lambda m: m["trees"][0]["split_conditions"].pop(),
    "a tree less than it says": lambda m: m["trees"].clear(),
    "a list of nothing": lambda m: m.__setitem__("trees", [None]),
    "text for a number": lambda m: m["gbtree_model_param"].__setitem__("num_trees", "many"),
    "rounds out of order": lambda m: m.__setitem__("iteration_indptr", [0, 2, 1]),
}


def test_a_bad_update_changes_nothing():
    good, other = grown(BINARY, 1), grown(BINARY, 2)
    bad = {name: changed(other, change) for name, change in BAD_TREES.items()}
    assert loaded(changed(other, lambda m: None)).num_boosted_rounds() == 1
    bad |= {
        "bytes": b"\x00 no model",
        "another score to start with": grown(BINARY | {"base_score": 0.25}, 2),
        "other classes": grown(CLASSES, 2),
        "NaN": other.replace(b'"base_weights":[', b'"base_weights":[NaN,', 1),
        "deep": b"[" * 200_000,
        "a list": b"[]",
    }
    strategy = build("FedXgbBagging")
    aggregation = strategy.aggregation(1)
    aggregation.add(Update(learner="a", parameters=opaque(good), examples=3))
    for name, update in bad.items():
        with pytest.raises(BadUpdate, match="XGBoost"):
            aggregation.add(Update(learner=name, parameters=opaque(update), examples=3))
    aggregation.add(Update(learner="b", parameters=opaque(other), examples=3))
    expected = opaque(*play(build("FedXgbBagging"), 1, (good,), (other,)))
    assert parameters_sha256(aggregation.result(0)) == parameters_sha256(expected)


def test_a_strategy_that_accepts_no_failures_ends_the_training_with_the_first():
    for name in FOR_OPAQUE:
        strategy = build(name, {"accept_failures": False})
        aggregation = strategy.aggregation(1)
        update = grown(BINARY, 1)
        aggregation.add(Update(learner="a", parameters=opaque(update), examples=3))
        with pytest.raises(FederationError, match="failures"):
            aggregation.result(1)
