"""The training as a Flower app, which `flwr run` starts, in simulation or on a SuperLink.

`client_app` answers with a LearnerClient, and `server_app` runs our rounds over the Grid. The app
that `flops-fl flower export` writes names both.
"""

from __future__ import annotations

import asyncio
import atexit
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

from flops_fl.actors.lead import Ending, Run, lead
from flops_fl.actors.learner import build_learner
from flops_fl.actors.simulation import learner_ids, write_parts
from flops_fl.errors import DataError, FlopsError, UsageError
from flops_fl.flower import app
from flops_fl.flower.client import LearnerClient
from flops_fl.flower.export import COMMIT, REPO_FOLDER, SOURCE
from flops_fl.flower.grid import GridCohort
from flops_fl.options.aggregator import AggregatorOptions
from flops_fl.options.federation import FederationOptions
from flops_fl.options.reading import build
from flops_fl.process.libraries import libraries_limited
from flops_fl.process.lines import speak
from flops_fl.process.temporary import temporary_folder
from flops_fl.repo.installed import installed_versions
from flops_fl.repo.source import Checkout
from flops_fl.types import Layout, Setup


def _lead(grid: Any, context: Any) -> None:
    """Lead the training over the Grid; results as from `python -m aggregator`.

    Raises:
        FlopsError: the training failed; Flower shows it and marks the run as failed.
    """
    speak()
    federation = _options(context)
    options = federation.for_aggregator()
    config = context.run_config
    commit = str(config.get(COMMIT, "")) or None
    repo = Checkout(_repository(), str(config.get(SOURCE, "")), commit)
    play = partial(_play, grid, options)
    with libraries_limited(federation.threads):
        options = options.model_copy(update={"repo": repo.source})
        lead(options, repo, play, greeted_under=options.seed)


def _play(grid: Any, options: AggregatorOptions, run: Run) -> Ending:
    training = run.training

    def on_presence(here: Sequence[str]) -> None:
        run.observer.on_wait(here, options.min_available_clients)

    layout = Layout.of(training.state.parameters)
    required = run.setup if options.mismatch == "refuse" else None
    cohort = GridCohort(grid, layout, required, on_presence, run.observer.on_join)
    run.observer.on_start(run.info, training.state.history)
    try:
        asyncio.run(training.run(cohort))
    except (FlopsError, KeyboardInterrupt) as error:
        return error
    return None


@contextmanager
def _learner(context: Any) -> Iterator[LearnerClient]:
    """Build this node's learner for one message, since each message may have a new process.

    Raises:
        FlopsError: the node has no data, or user code fails.
    """
    speak()
    options = _options(context)
    with libraries_limited(options.threads):
        learner = _build(options, context)
        with closing(learner.model):
            yield learner


def _build(options: FederationOptions, context: Any) -> LearnerClient:
    node = context.node_config
    index = node.get("partition-id")
    count = int(node.get("num-partitions", options.learners))
    names = learner_ids(max(count, 1))
    if index is not None and not 0 <= int(index) < count:
        raise DataError(f"partition-id {index}: expected 0 to {count - 1}, see num-partitions")
    default = f"node-{context.node_id}" if index is None else names[int(index)]
    learner = str(node.get("learner-id", default))
    data: Path | None
    if "data" in node:
        data = Path(str(node["data"]))
        tags = [tag for tag in str(node.get("data-tags", "")).split(",") if tag]
    elif index is None:
        raise DataError(
            "this node has no data: start flower-supernode with --node-config "
            '\'data="FOLDER" learner-id="NAME"\', or with partition-id and num-partitions'
        )
    else:
        data = _parts(options.data, options.partition, options.seed, options.resize, count)
        tags = [names[int(index)]]
    setup = _setup(str(context.run_config.get(COMMIT, "")))
    return build_learner(_repository(), learner, data, tags, setup=setup, seed=options.seed)


@lru_cache(maxsize=1)
def _setup(commit: str) -> Setup:
    return Setup(commit=commit, versions=installed_versions(_repository()))


@lru_cache(maxsize=1)
def _parts(data: str, scheme: str, seed: int, resize: int | None, count: int) -> Path | None:
    """Write all learners' parts of the data into a folder, once in a process; deleted at exit."""
    until_exit = ExitStack()
    folder = until_exit.enter_context(temporary_folder("flops-fl-data-"))
    atexit.register(until_exit.close)
    values = {"data": data, "partition": scheme, "seed": seed, "resize": resize}
    options = build(FederationOptions, {**values, "repo": "", "learners": count})
    return write_parts(options, learner_ids(count), folder)


def _options(context: Any) -> FederationOptions:
    """The run config's entries as options; an empty one counts as not given."""
    given = {
        name.replace("-", "_"): value
        for name, value in context.run_config.items()
        if value != "" and name not in (SOURCE, COMMIT)
    }
    return build(FederationOptions, {**given, "repo": str(_repository())})


def _repository() -> Path:
    """The repository's folder in the app; Flower has put the app on the import path."""
    for entry in sys.path:
        folder = Path(entry) / REPO_FOLDER
        if (folder / "model_manager.py").is_file():
            return folder
    raise UsageError(
        f"this Flower app has no {REPO_FOLDER}/model_manager.py: write it with "
        "flops-fl flower export"
    )


client_app = app.client_app(_learner)
server_app = app.server_app(_lead)
