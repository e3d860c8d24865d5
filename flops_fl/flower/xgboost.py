"""Bagging of XGBoost's trees: each learner's new trees are appended to the global forest.

This code reads models as `Booster.save_raw("json")` writes them
(https://xgboost.readthedocs.io/en/stable/tutorials/saving_model.html). It needs no XGBoost.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import flwr.server.strategy as flower
import numpy as np

from flops_fl.core.refusals import check_update
from flops_fl.dtypes import OPAQUE
from flops_fl.errors import BadUpdate, UsageError
from flops_fl.flower.opaque import FlowerOpaque
from flops_fl.flower.strategy import Bound, FlowerStrategy
from flops_fl.types import Array, Parameters, Scalar, Stage, Update

LEARNERS = "learners"
"""Entry of `config` with the number of learners that fit in this round."""


class FlowerBagging(FlowerOpaque):
    """Flower's FedXgbBagging, but it checks each update and appends all its trees.

    Flower's own class appends only the first ``num_parallel_tree`` trees of each update, so it
    loses all other classes and boosting rounds. It parses the whole forest for each update, and an
    update that is no model ends the training.

    Each learner is told how many fit in this round. They all grow their trees on the same
    residuals, so with N learners each should scale its trees by 1 / N.

    Args:
        initial: Returns the initial model: no bytes, or a forest to continue with.
    """

    def __init__(self, *arguments: Any, initial: Callable[[], Parameters], **options: Any) -> None:
        super().__init__(*arguments, **options)
        first = initial()
        if len(first) != 1:
            raise UsageError(f"--strategy {self.name} takes one item of bytes, not {len(first)}")
        self._flower.global_model = first[0].tobytes() or None
        if self._flower.global_model:
            try:
                _booster(self._flower.global_model)
            except ValueError as error:
                raise UsageError(f"--strategy {self.name}: the initial model is {error}") from error

    def choose(
        self, round: int, stage: Stage, learners: Sequence[str], parameters: Parameters
    ) -> dict[str, dict[str, Scalar]]:
        """See `FlowerStrategy.choose`."""
        chosen = super().choose(round, stage, learners, parameters)
        return {name: {LEARNERS: len(chosen), **config} for name, config in chosen.items()}

    def aggregation(self, round: int, bound: Bound = None) -> _Bagging:  # type: ignore[override]
        """See `FlowerStrategy.aggregation`; trees have no norm, so `bound` is ignored."""
        return _Bagging(self, self._flower)


class _Bagging:
    """The forest, to which a round's updates append their trees."""

    metrics: Mapping[str, Scalar] = {}

    def __init__(self, strategy: FlowerStrategy, own: Any) -> None:
        self._strategy = strategy
        self._own = own
        forest = own.global_model
        self._booster = _booster(forest) if forest else None

    def add(self, update: Update) -> None:
        """Append an update's trees, in learner-id order.

        Raises:
            BadUpdate: it is no XGBoost model, or its parameters differ from the forest's.
        """
        check_update(update, self._strategy.layout)
        try:
            booster = _booster(update.parameters[0].tobytes())
            if self._booster is None:
                self._booster = booster
            else:
                _append(self._booster, booster)
        except ValueError as error:
            raise BadUpdate(str(error)) from error

    def result(self, failures: int) -> list[Array]:
        """The forest with all trees.

        Raises:
            FederationError: a learner failed, and the strategy accepts no failures.
        """
        self._strategy.require_accepted(failures)
        self._own.global_model = json.dumps(self._booster).encode()
        return [np.frombuffer(self._own.global_model, OPAQUE)]


def _booster(data: bytes) -> dict[str, Any]:
    """Parse a model of trees and check it.

    Raises:
        ValueError: it is no such model; the text says what is wrong.
    """
    try:
        booster: dict[str, Any] = json.loads(data, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        raise ValueError(
            f"{len(data)} bytes that are no XGBoost model in JSON: give booster.save_raw('json')"
        ) from None
    try:
        model, features = _model(booster), int(_head(booster)["num_feature"])
        ends = [int(at) for at in model["iteration_indptr"]]
        counts = {len(model["trees"]), len(model["tree_info"]), ends[-1]}
        counts.add(int(model["gbtree_model_param"]["num_trees"]))
        sound = len(counts) == 1 and ends[0] == 0 and ends == sorted(ends)
        sound = sound and all(_is_tree(tree, features) for tree in model["trees"])
    except (KeyError, IndexError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise ValueError(f"no XGBoost model of trees ({type(error).__name__}: {error})") from None
    if not sound:
        raise ValueError(
            "an XGBoost model with a malformed tree, or with another number of trees than it says"
        )
    return booster


def _is_tree(tree: dict[str, Any], features: int) -> bool:
    """Whether no node has two parents, each split is on an existing feature, and all is finite.

    XGBoost follows a tree's indices without checking them, so a bad tree could crash the learners.
    """
    count = int(tree["tree_param"]["num_nodes"])
    left, right, splits = (
        np.asarray(tree[name], dtype=np.int64)
        for name in ("left_children", "right_children", "split_indices")
    )
    values = [np.asarray(tree[name], float) for name in ("split_conditions", "base_weights")]
    lengths = {len(tree[name]) for name in (*_PER_NODE, "split_conditions", "base_weights")}
    if count < 1 or lengths != {count}:
        return False
    inner = left >= 0
    children = np.concatenate([left[inner], right[inner]])
    return bool(
        ((children > 0) & (children < count)).all()
        and len(set(children.tolist())) == len(children)
        and (left[~inner] == -1).all()
        and ((splits[inner] >= 0) & (splits[inner] < features)).all()
        and all(np.isfinite(numbers).all() for numbers in values)
    )


_PER_NODE = ("left_children", "right_children", "split_indices", "parents", "default_left")


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} in a model")


def _append(forest: dict[str, Any], booster: dict[str, Any]) -> None:
    """Append a model's trees to a forest.

    Raises:
        ValueError: their outputs cannot be summed; the forest has not changed.
    """
    theirs = _head(booster)
    for name, ours in _head(forest).items():
        if theirs.get(name) != ours:
            raise ValueError(
                f"an XGBoost model with {name} {theirs.get(name)}, the global one has {ours}: give "
                "all learners the same parameters, base_score among them"
            )
    target, source = _model(forest), _model(booster)
    start = len(target["trees"])
    for number, tree in enumerate(source["trees"]):
        target["trees"].append({**tree, "id": start + number})
    target["tree_info"] += source["tree_info"]
    target["iteration_indptr"] += [start + at for at in source["iteration_indptr"][1:]]
    target["gbtree_model_param"]["num_trees"] = str(start + len(source["trees"]))


def _model(booster: dict[str, Any]) -> dict[str, Any]:
    model: dict[str, Any] = booster["learner"]["gradient_booster"]["model"]
    return model


def _head(booster: dict[str, Any]) -> dict[str, str]:
    """The parameters that must be equal in models whose trees are summed."""
    learner = booster["learner"]
    return {
        **{name: str(value) for name, value in learner["learner_model_param"].items()},
        "objective": str(learner["objective"]["name"]),
        "booster": str(learner["gradient_booster"]["name"]),
    }


class Bagging(flower.FedXgbBagging):  # type: ignore[misc]
    """Flower's class with its one option as a named argument, so that it can be listed."""

    def __init__(self, *, accept_failures: bool = True, **others: Any) -> None:
        super().__init__(accept_failures=accept_failures, **others)
