"""`flops-fl replay`: what a learner did in a past round, executed again on the spot.

A task depends on the repository, the round's model, the seed and the learner's data alone. So it
gives the same bytes again, and fails as it has failed.
"""

from __future__ import annotations

import logging
import pdb
import sys
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from typing import Any

from flops_fl.actors.learner import build_learner
from flops_fl.actors.simulation import learner_ids, write_parts
from flops_fl.data.local import Place, place_of
from flops_fl.errors import RepositoryError, UsageError
from flops_fl.flower.building import strategy_for
from flops_fl.flower.client import LearnerClient
from flops_fl.options.data import DataOptions
from flops_fl.options.federation import FederationOptions
from flops_fl.options.reading import build
from flops_fl.options.training import BOUNDS, COHORT_OPTIONS
from flops_fl.options.use import ReplayOptions
from flops_fl.process.answer import Answer
from flops_fl.process.temporary import temporary_folder
from flops_fl.repo.contract import ManagedModel
from flops_fl.run.checkpoint import Checkpoint, kept_rounds, load_round
from flops_fl.run.folder import shown
from flops_fl.run.start import CYCLE
from flops_fl.text import counted, some
from flops_fl.types import Evaluation, Parameters, Scalar, Task, Update, parameters_sha256
from flops_fl.use.model import repository_of, require_fit, result_of

log = logging.getLogger(__name__)

_EVERYBODY: Mapping[str, Scalar] = {"fraction_fit": 1.0, "fraction_evaluate": 1.0}


def replay(options: ReplayOptions, answer: Answer) -> None:
    """Execute a learner's task of a past round again, and print what it gave.

    Raises:
        UsageError, DataError: there is no such run, round, learner or data.
        RepositoryError: the repository's code fails, perhaps as it did then.
    """
    answer.apart()
    result = result_of(options.run)
    then = _recorded(result, options)
    start = _checkpoint(options, result)
    with (
        repository_of(options.run, result, options.repo) as repo,
        _data(options, start.run.seed) as (data, tags),
    ):
        client = build_learner(repo.path, options.learner, data, tags, seed=start.run.seed)
        with closing(client.model):
            document = _replayed(client, start, options)
        now = client.data.hash if client.data else ""
    was = _data_of(result, options)
    if was and now != was:
        log.warning(
            "these are not the data that %s had in round %d: their hash was %s and is %s%s",
            options.learner, options.round, was, now or "not known",
            "" if options.data_tags or options.learners else
            ". Give its --data-tags, too, if it had any (in a project: data_tags of its file)",
        )  # fmt: skip
    if options.json_:
        answer.give({**document, "data": now or None, "recorded_data": was, "recorded": then})
        return
    figures = ", ".join(f"{name} {value}" for name, value in document.items())
    print(figures + (f"\nthen it failed: {then}" if then else ""), file=answer.apart())


def _recorded(result: Mapping[str, Any], options: ReplayOptions) -> str | None:
    """The reason for which the learner failed then; None if it did not."""
    record = _records(result).get(options.round)
    if record is None:
        raise UsageError(
            f"--round {options.round}: {shown(options.run)} has "
            f"{counted(len(result['rounds']), 'round')}"
        )
    _require_task_here(record, result, options)
    failures = {each["learner"]: each for each in record["failures"]}
    took_part = sorted({*record["learners"], *failures})
    if options.learner not in took_part:
        raise UsageError(
            f"--learner {options.learner} had no part in round {options.round}: expected one of "
            f"{', '.join(took_part)}"
        )
    failure = failures.get(options.learner)
    return str(failure["reason"]) if failure else None


def _require_task_here(
    record: Mapping[str, Any], result: Mapping[str, Any], options: ReplayOptions
) -> None:
    """Check that the run has the model that the task began from.

    Raises:
        UsageError: another run has it, since the training is one of clusters.
    """
    if clusters := record.get("clusters"):
        raise UsageError(
            f"{shown(options.run)} is of a root, whose clusters ({some(clusters)}) train by their "
            "learners: replay a learner's fit from the folder of its cluster's aggregator. A "
            "simulation keeps none; flops-fl project plan gives the commands that do"
        )
    cycle = (result.get("options") or {}).get(CYCLE)
    if cycle and (options.stage == "evaluate" or options.round % cycle == 1 % cycle):
        raise UsageError(
            f"--stage {options.stage} --round {options.round} began from the root's model, which "
            f"{shown(options.run)}, of a cluster, has not kept: expected a fit of another round "
            f"than the first of each {cycle} that the cluster trains"
        )


def _data_of(result: Mapping[str, Any], options: ReplayOptions) -> str | None:
    """The hash of the data that the learner trained on then, if it told one."""
    told = None
    for record in _records(result).values():
        new = record.get("new_data", {})  # earlier versions have none
        if record["round"] <= options.round and options.learner in new:
            told = new[options.learner]["data"]
    return told


def _records(result: Mapping[str, Any]) -> Mapping[int, Mapping[str, Any]]:
    """The rounds of a run by number, one that has failed among them."""
    records = [*result["rounds"], *filter(None, [result.get("failed_round")])]
    return {each["round"]: each for each in records}


def _checkpoint(options: ReplayOptions, result: Mapping[str, Any]) -> Checkpoint:
    """The model from which the task began."""
    later = options.stage == "fit"  # an evaluation starts from the model of its own round
    found = load_round(options.run, options.round - later)
    if found is None:
        there = _records(result)
        kept = [n + later for n in kept_rounds(options.run) if n + later in there]
        raise UsageError(
            f"--round {options.round} cannot be replayed, its model is not kept: expected one of "
            f"{', '.join(map(str, kept)) or 'none'} for --stage {options.stage}"
            f"{', which begins from the model of the round before' if later else ''}. Train with "
            "--keep-rounds all to keep every round"
        )
    return found


@contextmanager
def _data(options: ReplayOptions, seed: int) -> Iterator[tuple[Place | None, list[str]]]:
    """The learner's data and their tags: the user's own, or a simulation's part of them."""
    if options.learners is None:
        yield place_of(build(DataOptions, options.told())), options.data_tags
        return
    values = {"partition": options.partition, "resize": options.resize, "seed": seed}
    values |= {"repo": "", "learners": options.learners}
    values |= {"data": options.data} if options.data else {}
    with temporary_folder("flops-fl-data-") as folder:
        split = build(FederationOptions, values)
        yield write_parts(split, learner_ids(options.learners), folder), [options.learner]


def _replayed(client: LearnerClient, start: Checkpoint, options: ReplayOptions) -> dict[str, Any]:
    said = "the checkpoint does not fit the repository"
    require_fit(said, start.parameters, client.model.layout)
    task = Task(
        run_id=start.run.run_id,
        round=options.round,
        stage=options.stage,
        seed=start.run.seed,
        version=start.state.round,
        config=_config(client.model, start, options),
    )
    done = _debugged(client, task, start.parameters, debug=options.pdb)
    about = {"learner": options.learner, "round": options.round, "stage": options.stage}
    if isinstance(done, Update):
        digest = parameters_sha256(done.parameters)
        return {**about, "examples": done.examples, "update_sha256": digest}
    accuracy = done.metrics["accuracy"]
    return {**about, "examples": done.examples, "loss": done.loss, "accuracy": accuracy}


def _config(model: ManagedModel, start: Checkpoint, options: ReplayOptions) -> Mapping[str, Scalar]:
    """What the strategy told the learner."""
    run = start.run
    own = {name: each for name, each in run.options.items() if name not in (*BOUNDS, CYCLE)}
    told = {**own, **_EVERYBODY, **{name: 1 for name in COHORT_OPTIONS if "min" in name}}
    strategy = strategy_for(model, run.strategy, told, seed=run.seed)
    strategy.restore(start.strategy)
    chosen = strategy.choose(options.round, options.stage, [options.learner], start.parameters)
    return chosen.get(options.learner, {})


def _debugged(
    client: LearnerClient, task: Task, parameters: Parameters, *, debug: bool
) -> Update | Evaluation:
    try:
        return client.perform(task, parameters)
    except RepositoryError as error:
        if debug and error.__cause__ is not None:
            sys.stderr.write(f"{error.traceback}\n")
            pdb.post_mortem(error.__cause__.__traceback__)
        raise
