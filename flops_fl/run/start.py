"""Where a run starts: afresh, where an earlier one stopped, or not at all."""

from __future__ import annotations

import tempfile
import uuid
from dataclasses import replace
from pathlib import Path

from flops_fl.core.aggregation import Strategy
from flops_fl.core.observer import RunInfo
from flops_fl.core.plan import State
from flops_fl.errors import UsageError
from flops_fl.options.config import AggregatorOptions
from flops_fl.process.spool import is_large, keep
from flops_fl.repo.contract import ManagedModel
from flops_fl.repo.source import Checkout
from flops_fl.run.checkpoint import Checkpoint, load_checkpoint
from flops_fl.run.result import read_result
from flops_fl.types import Layout


def starting_point(
    options: AggregatorOptions, repo: Checkout, model: ManagedModel, strategy: Strategy
) -> tuple[RunInfo, State]:
    """Prepare the folder; the run, and the state that it starts from.

    Raises:
        UsageError: the folder cannot be used, holds an unfinished run and neither --resume nor
            --fresh was said, or the run there is another one.
    """
    info = RunInfo(
        project_id=options.project_id,
        run_id=uuid.uuid4().hex[:12],
        repo_source=options.repo,
        repo_commit=repo.commit,
        strategy=options.strategy,
        seed=options.seed,
        rounds=options.rounds,
        options={**strategy.options, **options.cohort, **options.limits},
    )
    _require_writable(options.folder)
    checkpoint = None if options.fresh else load_checkpoint(options.folder)
    if checkpoint is not None and options.resume:
        _require_same(checkpoint, info, model.layout)
        strategy.restore(checkpoint.strategy)
        info, state = replace(info, run_id=checkpoint.run.run_id), checkpoint.state
    else:
        if checkpoint is not None and not _finished(options.folder, checkpoint.run.run_id):
            raise UsageError(
                f"{options.folder} holds an unfinished run: go on with --resume, start anew with "
                "--fresh, or choose another --output"
            )
        state = State(parameters=model.parameters())
    state = replace(state, parameters=keep(options.folder, state.parameters))
    if is_large(state.parameters):
        model.release()  # the user's own copy is not needed before the end
    return info, state


def _require_writable(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(
            f"--output {folder} cannot be made ({error.strerror}): choose another folder"
        ) from None
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise UsageError(
            f"--output {folder} cannot be written ({error.strerror}): choose another folder"
        ) from None


def _finished(folder: Path, run_id: str) -> bool:
    result = read_result(folder)
    return result.get("status") == "completed" and result.get("run_id") == run_id


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
