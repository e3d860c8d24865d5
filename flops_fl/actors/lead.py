"""Lead a training, over our protocol or Flower's Grid: its start, observers and results."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

from rich.console import Console

from flops_fl.actors.tracking import Tracking
from flops_fl.core.cycle import Relay
from flops_fl.core.norm import NormLimit
from flops_fl.core.observer import Observer, Observers, RunInfo
from flops_fl.core.plan import Plan
from flops_fl.core.rounds import Training
from flops_fl.core.seeding import seed_build
from flops_fl.errors import INTERRUPTED, FlopsError, UsageError
from flops_fl.flower.building import strategy_for
from flops_fl.observers.console import ConsoleObserver
from flops_fl.observers.metrics import MetricsObserver
from flops_fl.observers.notices import Notices
from flops_fl.observers.page import PageObserver
from flops_fl.observers.picture import PictureObserver
from flops_fl.options.aggregator import AggregatorOptions
from flops_fl.process.answer import Answer
from flops_fl.process.health import Health, served
from flops_fl.process.lines import on_terminal, stamp
from flops_fl.process.memory import freeze_imports, return_large_blocks
from flops_fl.process.prints import LEARNERS
from flops_fl.process.signals import told_of_signals
from flops_fl.process.spool import keep
from flops_fl.repo.contract import ManagedModel
from flops_fl.repo.dependencies import check_dependencies
from flops_fl.repo.hidden_state import NOTHING
from flops_fl.repo.installed import installed_versions
from flops_fl.repo.source import Checkout
from flops_fl.run.census import Census
from flops_fl.run.checkpoint import BEST, LAST
from flops_fl.run.folder import run_folder, shown
from flops_fl.run.journal import FolderJournal
from flops_fl.run.result import PICTURE, RESULT, leave, write_result
from flops_fl.run.start import describe, starting_point
from flops_fl.types import Setup

log = logging.getLogger(__name__)

DONE = "completed"

Ending: TypeAlias = Exception | KeyboardInterrupt | None
"""What ended a training early; None if it ran to its end."""

Ended: TypeAlias = Callable[[Path, dict[str, Any]], None]
"""Called with a run's folder and result.json once it has ended, however it has."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Run:
    """One run: its training, its folder and its observers."""

    info: RunInfo
    training: Training
    relay: Relay | None
    """The strategy of a cluster aggregator; None for any other."""
    journal: FolderJournal
    folder: Path
    setup: Setup
    census: Census
    tracking: Tracking
    observer: Observer
    health: Health

    def kept(self) -> bool:
        """Whether the training's state is on disk, in a checkpoint or in the results."""
        if self.journal.secure(self.training.state):
            return True
        with suppress(OSError):
            leave(self.folder, self.info, self.training, self.census, status=DONE, error=None)
            return True
        return False


def lead(
    options: AggregatorOptions,
    repo: Checkout,
    play: Callable[[Run], Ending],
    *,
    greeted_under: int = 0,
    answer: Answer | None = None,
    notices: Notices | None = None,
    on_end: Ended | None = None,
) -> int:
    """Build the model without data, let `play` run the rounds, and write the results.

    Args:
        greeted_under: The seed under which learners have built the model whose state outside the
            parameters is in their Hello.
        answer: Prints result.json, if --json is given.
        notices: Whom to tell how it goes; its owner tells of failures.
        on_end: See `Ended`.

    Returns:
        The exit code: 0 done, 130 interrupted.

    Raises:
        FlopsError: the run failed; after it has begun, result.json has the error, too.
    """
    return_large_blocks()
    freeze_imports()
    check_dependencies(repo.path)
    with run_folder(options, options.project_id or repo.name, repo.source) as folder:
        model, setup = _build(repo, options.seed, greeted_under)
        run = _prepare(options, repo, folder, model, setup, others=[notices] if notices else [])
        with served(run.health, options.metrics), closing(model):
            try:
                ending = play(run)
            except UsageError:
                raise  # nothing has begun: an earlier result in the folder stays
            except Exception as error:
                ending = error
            try:
                document = _leave(run, ending, answer if options.json_ else None)
            except OSError as fault:
                raise UsageError(
                    f"the results cannot be written to {shown(folder)} ({fault.strerror}): make "
                    f"room, then go on with --resume; {_left(run, ending)}"
                ) from ending or fault
    if on_end:
        on_end(folder, document)
    if isinstance(ending, Exception):
        raise ending
    interrupted = document["status"] == "interrupted"
    if notices:
        notices.interrupted() if interrupted else notices.succeeded(document)
    return INTERRUPTED if interrupted else 0


def _build(repo: Checkout, seed: int, greeted_under: int) -> tuple[ManagedModel, Setup]:
    """Build the model as the learners do, and the setup with which theirs is compared."""
    model = ManagedModel(repo.path, before_build=partial(seed_build, seed))
    beside = model.beside()
    if beside not in ("", NOTHING) and seed != greeted_under:
        model.release()  # memory may not hold two models
        as_greeted = ManagedModel(repo.path, before_build=partial(seed_build, greeted_under))
        beside = as_greeted.beside()
        as_greeted.close()
    versions = installed_versions(repo.path)
    return model, Setup(commit=repo.commit or "", versions=versions, state=beside)


def _prepare(
    options: AggregatorOptions,
    repo: Checkout,
    folder: Path,
    model: ManagedModel,
    setup: Setup,
    *,
    others: Sequence[Observer],
) -> Run:
    told = options.cohort | options.strategy_option
    strategy = strategy_for(model, options.strategy, told, seed=options.seed)
    if options.max_update_norm is not None and model.layout.opaque:
        raise UsageError(
            "--max-update-norm measures how far numbers move, and this model's parameters are "
            "opaque (bytes, or opaque_parameters): leave it out"
        )
    console = Console(stderr=True)
    tracking = Tracking(options, folder, repo, model, console)
    health = Health()
    census = Census(setup, lambda said: _warn(said, options.mismatch))
    observer = Observers(
        [
            census,
            *tracking.observers,
            MetricsObserver(health),
            *([PageObserver(health)] if options.metrics else []),
            ConsoleObserver(console, folder / LEARNERS, options.remind),
            PictureObserver(folder / PICTURE),
            *others,
        ]
    )
    relay = Relay(strategy) if options.is_cluster else None
    strategy = relay or strategy
    info = describe(options, repo, strategy)
    info, state = starting_point(
        info, folder, model, strategy, resume=options.resume, large=options.large_model
    )
    journal = FolderJournal(folder, info, strategy.state, options.keep_rounds, fresh=options.fresh)
    training = Training(state, plan_of(options, info.run_id, folder), strategy, observer, journal)
    return Run(
        info=info, training=training, relay=relay, journal=journal, folder=folder, setup=setup,
        census=census, tracking=tracking, observer=observer, health=health,
    )  # fmt: skip


def _warn(said: str, mismatch: str) -> None:
    if mismatch != "ignore":
        log.warning("%s", said)


def plan_of(options: AggregatorOptions, run_id: str, folder: Path) -> Plan:
    """The plan of the rounds, as the options ask for them."""
    norm = options.max_update_norm
    return Plan(
        run_id=run_id,
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
        keep=partial(keep, folder, options.large_model),
    )


def _leave(run: Run, ending: Ending, answer: Answer | None) -> dict[str, Any]:
    """Write a run's results, log where they are, and return result.json."""
    status, said = _status(ending)
    with told_of_signals(lambda: None):  # a second signal does not stop this write
        run.observer.on_end(status, said)
        document = leave(run.folder, run.info, run.training, run.census, status=status, error=said)
    # MLflow may take a while; the result is on disk already.
    tracked = _track(run, interrupted=status == "interrupted")
    if tracked is not None:
        document |= {"mlflow": tracked}
        write_result(run.folder / RESULT, document)
    _say_where(run)
    if answer:
        _print(document, answer)
    if status == "interrupted":
        early = " before its first round was done: start it again, or"
        when = ":" if run.training.state.round else early
        now = stamp(terminal=on_terminal(sys.stderr))
        sys.stderr.write(f"{now}interrupted{when} go on with --resume\n")  # as run_main does
    return document


def _track(run: Run, *, interrupted: bool) -> dict[str, str] | None:
    try:
        return run.tracking.finish(run.training.state, interrupted=interrupted)
    except KeyboardInterrupt:
        if not interrupted:
            raise
        log.warning("MLflow has not received everything: --resume delivers the rest")
        return None


def _print(document: Mapping[str, Any], answer: Answer) -> None:
    try:
        answer.give(document)
    except OSError as error:
        log.warning("--json: %s cannot be printed on stdout (%s)", RESULT, error.strerror)


def _left(run: Run, ending: Ending) -> str:
    """A phrase that says whether rounds are lost to a resumed run, and which."""
    state, newest = run.training.state, run.journal.newest_round
    if run.journal.secure(state):
        return "no round is lost" + (", and no learner is needed" if run.training.over else "")
    lost = f"rounds {newest + 1} to {state.round} are"
    if newest == state.round:
        lost = f"the evaluation of round {newest} is"
    return f"{lost} lost" + (", and the learners wait for it" if ending is None else "")


def _status(ending: Ending) -> tuple[str, str | None]:
    if ending is None:
        return DONE, None
    if isinstance(ending, KeyboardInterrupt):
        return "interrupted", None
    if isinstance(ending, FlopsError):
        return "failed", str(ending)
    return "failed", f"{type(ending).__name__}: {ending}"


def _say_where(run: Run) -> None:
    names = [name for name in (RESULT, LAST, BEST, PICTURE) if (run.folder / name).exists()]
    log.info("in %s: %s", shown(run.folder), ", ".join(names))
    if run.tracking.where:
        log.info("%s", run.tracking.where)
