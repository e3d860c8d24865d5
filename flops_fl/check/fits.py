"""One fit and one evaluation, as a learner does them in the first round."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from flops_fl.actors.learner import build_learner
from flops_fl.check.report import Order, Report
from flops_fl.core.refusals import check_update
from flops_fl.data.local import place_of
from flops_fl.errors import BadUpdate, RepositoryError, UsageError
from flops_fl.flower.building import strategy_for
from flops_fl.flower.client import ROUND, SEED, LearnerClient
from flops_fl.flower.xgboost import LEARNERS
from flops_fl.options.data import DataOptions
from flops_fl.options.reading import build
from flops_fl.options.training import MINIMUMS
from flops_fl.repo.workfolder import WorkFolders
from flops_fl.types import Evaluation, Layout, Parameters, Scalar, Update, parameters_sha256

CONFIG: Mapping[str, Scalar] = {SEED: 0, ROUND: 1}
COHORT = 16
"""Learners from whom a strategy can choose."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Fitted:
    """What the first fit and the evaluation after it gave."""

    client: LearnerClient
    config: Mapping[str, Scalar]
    """What the fit was told."""
    start: Parameters
    update: Update
    evaluation: Evaluation
    present: Layout
    """The parameters as the ModelManager gave them after the fit, their dtypes as they were."""
    state: str
    """Digest of the model's state outside its parameters after the fit."""
    seconds: Mapping[str, float]
    """Times by stage, in seconds."""

    @property
    def digest(self) -> str:
        """A digest of all that the two have given."""
        figures = (
            parameters_sha256(self.update.parameters), self.update.examples,
            self.evaluation.loss, self.evaluation.examples, dict(self.evaluation.metrics),
        )  # fmt: skip
        return hashlib.sha256(repr(figures).encode()).hexdigest()


def config_for(order: Order, client: LearnerClient, start: Parameters) -> Mapping[str, Scalar]:
    """What an aggregator's strategy tells a learner for its first fit.

    Raises:
        UsageError: there is no such strategy, or it does not fit this model.
        FederationError: its code raised.
    """
    if not order.strategy:  # a model without a mean is made for one such as FedXgbBagging
        return {**CONFIG, LEARNERS: 1} if client.model.layout.opaque else CONFIG
    options = {**dict.fromkeys(MINIMUMS, 1), **order.strategy_option}
    strategy = strategy_for(client.model, order.strategy, options, seed=0)
    others = (f"{order.learner}-{number}" for number in range(2, COHORT + 1))
    chosen = strategy.choose(1, "fit", [order.learner, *others], start)
    if not chosen:
        raise UsageError(
            f"--strategy {order.strategy} chooses none of {COHORT} learners: check its options"
        )
    own = chosen.get(order.learner) or next(iter(chosen.values()))
    return {**own, **CONFIG}


def first_fit(order: Order, report: Report, folders: WorkFolders) -> Fitted:
    """Build a learner with its data, fit it once, and evaluate it.

    Raises:
        FlopsError: the data cannot be loaded, user code fails, or an aggregator would refuse
            what it gives.
    """
    report.step("set_model_data")
    seconds, started = {}, time.monotonic()
    data = build(DataOptions, order.data or {})
    client = build_learner(
        Path(order.folder), order.learner, place_of(data), data.data_tags,
        work=folders.of("learner"),
    )  # fmt: skip
    seconds["data"] = time.monotonic() - started
    start = client.get_parameters({})
    config = config_for(order, client, start)
    report.fact(config={name: said for name, said in config.items() if name not in CONFIG})
    report.step("fit_model")
    started = time.monotonic()
    arrays, examples, _ = client.fit(start, config)
    seconds["fit"] = time.monotonic() - started
    update = Update(learner=order.learner, parameters=arrays, examples=examples)
    try:
        check_update(update, client.model.layout)
    except BadUpdate as error:
        raise RepositoryError(
            f"an aggregator refuses the update after ModelManager.fit_model: {error}",
            stage="fit_model",
        ) from error
    present, state = client.model.present_layout(), client.model.beside()
    report.step("evaluate_model")
    started = time.monotonic()
    loss, samples, metrics = client.evaluate(arrays, CONFIG)
    seconds["evaluate"] = time.monotonic() - started
    evaluation = Evaluation(learner=order.learner, loss=loss, examples=samples, metrics=metrics)
    return Fitted(
        client=client, config=config, start=start, update=update, evaluation=evaluation,
        present=present, state=state, seconds=seconds,
    )  # fmt: skip
