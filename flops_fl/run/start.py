"""A run's starting point: the initial model, or the state that an earlier process left."""

from __future__ import annotations

import logging
import uuid
from dataclasses import replace
from pathlib import Path

from flops_fl.core.aggregation import Strategy
from flops_fl.core.observer import RunInfo
from flops_fl.core.plan import State
from flops_fl.errors import UsageError
from flops_fl.options.aggregator import AggregatorOptions
from flops_fl.process.spool import is_large, keep
from flops_fl.repo.contract import ManagedModel
from flops_fl.repo.source import Checkout, is_url
from flops_fl.run.checkpoint import Checkpoint, load_checkpoint
from flops_fl.run.folder import shown
from flops_fl.types import Layout

log = logging.getLogger(__name__)


CYCLE = "rounds_of_a_cycle"  # of a cluster: how many rounds it trains in each of the root


def describe(options: AggregatorOptions, repo: Checkout, strategy: Strategy) -> RunInfo:
    """Describe a run with these options that is about to start."""
    return RunInfo(
        project_id=options.project_id or repo.name,
        run_id=uuid.uuid4().hex[:12],
        repo_source=repo.source,
        repo_commit=repo.commit,
        repo_folder=None if is_url(repo.source) else str(repo.path),
        strategy=options.strategy,
        seed=options.seed,
        rounds=0 if options.is_cluster else options.rounds,
        options={
            **strategy.options,
            **options.cohort,
            **options.bounds,
            # Versions of a cluster's model count them: they cannot change in a run.
            **({CYCLE: options.rounds} if options.is_cluster else {}),
        },
    )


def starting_point(
    info: RunInfo,
    folder: Path,
    model: ManagedModel,
    strategy: Strategy,
    *,
    resume: bool,
    large: int,
) -> tuple[RunInfo, State]:
    """Return the run and the state that it starts from.

    That is the initial model, or the state that an earlier process left in the folder.

    Args:
        large: The size in bytes from which the model is kept in a file, not in memory.

    Raises:
        UsageError: the checkpoints are damaged, or belong to another run.
    """
    checkpoint = load_checkpoint(folder) if resume else None
    if resume and checkpoint is None:
        log.warning("--resume: the training starts anew, there is no run in %s", shown(folder))
    if checkpoint is None:
        state = State(parameters=strategy.initial(model.parameters()))
    else:
        _require_same(checkpoint, info, model.layout)
        strategy.restore(checkpoint.strategy)
        info, state = replace(info, run_id=checkpoint.run.run_id), checkpoint.state
    state = replace(state, parameters=keep(folder, large, state.parameters))
    if is_large(state.parameters, large):
        model.release()  # the user's model object is not needed until the run ends
    return info, state


def _require_same(checkpoint: Checkpoint, now: RunInfo, layout: Layout) -> None:
    was = checkpoint.run
    differences = [
        f"{name} was {getattr(was, name)!r} and is {getattr(now, name)!r}"
        for name in ("project_id", "repo_commit", "strategy", "seed", "options")
        if getattr(was, name) != getattr(now, name)
    ]
    contract = Layout.of(checkpoint.parameters).difference(layout)
    differences += [f"the model has {contract}"] if contract else []
    if differences:
        raise UsageError(
            f"--resume would go on with another run: {'; '.join(differences)}. Give the same "
            "options and commit, or --fresh"
        )
