"""To lead a training, whatever its learners are reached by: where it starts, who observes it,
what it leaves."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

from rich.console import Console

from flops_fl.actors.tracking import Tracking
from flops_fl.core.norm import NormLimit
from flops_fl.core.observer import Observer, Observers, RunInfo
from flops_fl.core.plan import Plan
from flops_fl.core.rounds import Training
from flops_fl.core.seeding import seed_generators
from flops_fl.errors import INTERRUPTED, FlopsError, UsageError
from flops_fl.flower.building import strategy_for
from flops_fl.observers.console import ConsoleObserver
from flops_fl.observers.metrics import MetricsObserver
from flops_fl.observers.picture import PictureObserver
from flops_fl.options.config import AggregatorOptions
from flops_fl.process.health import Health, served
from flops_fl.process.memory import return_large_blocks
from flops_fl.process.spool import keep
from flops_fl.repo.contract import ManagedModel
from flops_fl.repo.installed import installed_versions
from flops_fl.repo.source import Checkout
from flops_fl.run.census import Census
from flops_fl.run.checkpoint import BEST, LAST
from flops_fl.run.journal import FolderJournal
from flops_fl.run.result import PICTURE, RESULT, leave, write_result
from flops_fl.run.start import starting_point
from flops_fl.types import Setup

Ending: TypeAlias = Exception | KeyboardInterrupt | None
"""What ended a training before its time, if anything did."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Run:
    """One run: its training, its folder, and who observes it."""

    info: RunInfo
    training: Training
    folder: Path
    observer: Observer
    setup: Setup
    census: Census
    health: Health


def lead(options: AggregatorOptions, repo: Checkout, play: Callable[[Run], Ending]) -> int:
    """Build the model without data, let `play` do the rounds, and leave the results.

    Returns:
        The exit code: 0 done, 130 interrupted.

    Raises:
        FlopsError: before the first round; afterwards it stands in result.json, too.
    """
    return_large_blocks()
    # Building seeds the initial global model: same seed, same start.
    seed = partial(seed_generators, options.seed, "aggregator", 0, "build")
    model = ManagedModel(repo.path, before_build=seed)
    console = Console(stderr=True)
    tracking = Tracking(options, repo, model, console)
    run = _prepare(options, repo, model, tracking, console)
    with served(run.health, options.metrics):
        try:
            ending = play(run)
        except UsageError:
            raise  # nothing has begun: an earlier result in the folder stays
        except Exception as error:
            ending = error
        try:
            code = _leave(run, ending, tracking, console, print_json=options.json_)
        except OSError as fault:
            raise UsageError(
                f"the results cannot be written to {run.folder} ({fault.strerror}): make room, "
                "then go on with --resume"
            ) from ending or fault
    if isinstance(ending, Exception):
        raise ending
    return code


def _prepare(
    options: AggregatorOptions,
    repo: Checkout,
    model: ManagedModel,
    tracking: Tracking,
    console: Console,
) -> Run:
    told = options.cohort | options.strategy_option
    strategy = strategy_for(model, options.strategy, told, seed=options.seed)
    info, state = starting_point(options, repo, model, strategy)
    health = Health()
    setup = Setup(commit=repo.commit or "", versions=installed_versions(repo.path))
    census = Census(setup, lambda said: _warn(console, said, options.mismatch))
    observers = [
        census,
        *tracking.observers,
        MetricsObserver(health),
        ConsoleObserver(console),
        PictureObserver(options.folder / PICTURE),
    ]
    observer = Observers(observers)
    journal = FolderJournal(options.folder, info, strategy.state)
    training = Training(state, _plan(options, info), strategy, observer, journal)
    return Run(
        info=info, training=training, folder=options.folder, observer=observer, setup=setup,
        census=census, health=health,
    )  # fmt: skip


def _warn(console: Console, said: str, mismatch: str) -> None:
    if mismatch != "ignore":
        console.print(f"warning: {said}", style="yellow", highlight=False, soft_wrap=True)


def _plan(options: AggregatorOptions, run: RunInfo) -> Plan:
    """The rounds that the options ask for."""
    norm = options.max_update_norm
    return Plan(
        run_id=run.run_id,
        rounds=options.rounds,
        seed=options.seed,
        min_available=options.min_available_clients,
        min_fit=options.min_fit_clients,
        min_evaluate=options.min_evaluate_clients,
        round_timeout=options.round_timeout,
        join_timeout=options.join_timeout,
        grace=options.grace,
        max_failures=options.max_failures,
        limit=NormLimit(norm, options.large_updates == "refuse") if norm else None,
        keep=partial(keep, options.folder),
    )


def _leave(
    run: Run, ending: Ending, tracking: Tracking, console: Console, *, print_json: bool
) -> int:
    """Write and say all that a run leaves; the exit code of one that nothing has failed."""
    status, said = _status(ending)
    run.observer.on_end(status, said)
    document = leave(run.folder, run.info, run.training, run.census, status=status, error=said)
    # What comes now may take a while, and the result is safe already.
    tracked = tracking.finish(run.training.state.best, interrupted=status == "interrupted")
    if tracked is not None:
        document |= {"mlflow": tracked}
        write_result(run.folder / RESULT, document)
    _say_where(run, tracking, console)
    if print_json:
        _print(document)
    return INTERRUPTED if status == "interrupted" else 0


def _status(ending: Ending) -> tuple[str, str | None]:
    if ending is None:
        return "completed", None
    if isinstance(ending, KeyboardInterrupt):
        return "interrupted", None
    if isinstance(ending, FlopsError):
        return "failed", str(ending)
    return "failed", f"{type(ending).__name__}: {ending}"


def _say_where(run: Run, tracking: Tracking, console: Console) -> None:
    names = [RESULT, LAST, BEST, PICTURE]
    shown = ", ".join(name for name in names if (run.folder / name).exists())
    console.print(f"in {run.folder}: {shown}", highlight=False, soft_wrap=True)
    if tracking.where:
        console.print(tracking.where, highlight=False, soft_wrap=True)


def _print(document: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(document, indent=2) + "\n")
    sys.stdout.flush()
