"""The same training as a Flower app: what `flwr run` starts, in simulation or on a SuperLink.

`client_app` answers with a LearnerClient, `server_app` plays our rounds over the Grid.
`flops-fl flower export` writes the app around a repository that names both.
"""

from __future__ import annotations

import asyncio
import atexit
import shutil
import sys
import tempfile
from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from pathlib import Path

from flwr.app import ArrayRecord, ConfigRecord, Context, Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp

from flops_fl.config import AggregatorOptions, FederationOptions
from flops_fl.core.client import LearnerClient
from flops_fl.core.rounds import train
from flops_fl.core.strategy import Strategy
from flops_fl.engines.aggregate import Ending, lead, plan_of
from flops_fl.engines.export import COMMIT, REPO_FOLDER, SOURCE
from flops_fl.engines.grid import (
    FAILURE,
    METRICS,
    PARAMETERS,
    RESULT,
    GridCohort,
    task_of,
)
from flops_fl.engines.learn import ClientWorker, build_learner
from flops_fl.engines.report import Report
from flops_fl.engines.simulate import learner_ids, write_parts
from flops_fl.errors import DataError, FlopsError, RepositoryError, UsageError
from flops_fl.options import build
from flops_fl.repo.source import Checkout
from flops_fl.threads import threads_limited
from flops_fl.types import Layout, Update

client_app = ClientApp()
server_app = ServerApp()


@client_app.query()  # type: ignore[untyped-decorator]
def query(message: Message, context: Context) -> Message:
    """Say which learner this node is, and its model's layout."""

    def answer(learner: LearnerClient) -> RecordDict:
        layout = learner.model.layout.fingerprint
        return _result({"learner": learner.learner, "fingerprint": layout})

    return _perform(message, context, answer)


@client_app.train()  # type: ignore[untyped-decorator]
@client_app.evaluate()  # type: ignore[untyped-decorator]
def perform(message: Message, context: Context) -> Message:
    """Fit or evaluate the global model on this node's data."""

    def answer(learner: LearnerClient) -> RecordDict:
        task = task_of(message.content)
        arrays = message.content[PARAMETERS].to_numpy_ndarrays()
        done = ClientWorker(learner).perform(task, arrays)
        metrics = {METRICS: ConfigRecord(dict(done.metrics))}
        if isinstance(done, Update):
            tensors = {PARAMETERS: ArrayRecord(list(done.parameters))}
            return _result({"examples": done.examples}, **metrics, **tensors)
        return _result({"loss": done.loss, "examples": done.examples}, **metrics)

    return _perform(message, context, answer)


@server_app.main()  # type: ignore[untyped-decorator]
def main(grid: Grid, context: Context) -> None:
    """Lead the training over the Grid; results as from `python -m aggregator`.

    Raises:
        FlopsError: the training failed; Flower shows it and marks the run as failed.
    """
    federation = _options(context)
    options = federation.for_aggregator()
    config = context.run_config
    commit = str(config.get(COMMIT, "")) or None
    repo = Checkout(_repository(), str(config.get(SOURCE, "")), commit)
    play = partial(_play, grid, options)
    with threads_limited(federation.threads):
        lead(options.model_copy(update={"repo": repo.source}), repo, play)


def _play(grid: Grid, options: AggregatorOptions, report: Report, strategy: Strategy) -> Ending:
    observer = report.observers

    def on_presence(here: Sequence[str]) -> None:
        observer.on_wait(here, options.min_available_clients)

    cohort = GridCohort(grid, Layout.of(report.state.parameters).fingerprint, on_presence)
    observer.on_start(report.run, report.state.history)
    try:
        plan = plan_of(options, report)
        asyncio.run(train(report.state, plan, cohort, strategy, observer))
    except (FlopsError, KeyboardInterrupt) as error:
        return error
    return None


def _perform(
    message: Message, context: Context, answer: Callable[[LearnerClient], RecordDict]
) -> Message:
    """Reply; user code that fails costs this learner's contribution, and says why."""
    try:
        options = _options(context)
        with threads_limited(options.threads):
            content = answer(_learner(options, context))
    except FlopsError as error:
        stage = error.stage if isinstance(error, RepositoryError) else "data"
        traceback = error.traceback if isinstance(error, RepositoryError) else ""
        content = _result({FAILURE: str(error), "stage": stage, "traceback": traceback})
    return Message(content, reply_to=message)


def _learner(options: FederationOptions, context: Context) -> LearnerClient:
    """This node's learner, new for each message: a node may be a new process each time.

    Raises:
        FlopsError: the node has no data, or user code fails.
    """
    node = context.node_config
    index = node.get("partition-id")
    count = int(node.get("num-partitions", options.learners))
    names = learner_ids(max(count, 1))
    if index is not None and not 0 <= int(index) < count:
        raise DataError(f"partition-id {index}: expected 0 to {count - 1}, see num-partitions")
    default = f"node-{context.node_id}" if index is None else names[int(index)]
    learner = str(node.get("learner-id", default))
    if "data" in node:
        tags = [tag for tag in str(node.get("data-tags", "")).split(",") if tag]
        return build_learner(_repository(), learner, Path(str(node["data"])), tags)
    if index is None:
        raise DataError(
            "this node has no data: start flower-supernode with --node-config "
            '\'data="FOLDER" learner-id="NAME"\', or with partition-id and num-partitions'
        )
    parts = _parts(options.data, options.partition, options.seed, options.resize, count)
    return build_learner(_repository(), learner, parts, [names[int(index)]])


@lru_cache(maxsize=1)
def _parts(data: str, scheme: str, seed: int, resize: int | None, count: int) -> Path | None:
    """Folder of all learners' parts of the data, cut once in a process, and gone with it."""
    folder = Path(tempfile.mkdtemp(prefix="flops-data-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    values = {"data": data, "partition": scheme, "seed": seed, "resize": resize}
    options = build(FederationOptions, {**values, "repo": "", "learners": count})
    return write_parts(options, learner_ids(count), folder)


def _options(context: Context) -> FederationOptions:
    """The run config's entries as options; one that is empty counts as not given."""
    given = {
        name.replace("-", "_"): value
        for name, value in context.run_config.items()
        if value != "" and name not in (SOURCE, COMMIT)
    }
    return build(FederationOptions, {**given, "repo": str(_repository())})


def _repository() -> Path:
    """The repository's folder in the app, which Flower has put on the import path."""
    for entry in sys.path:
        folder = Path(entry) / REPO_FOLDER
        if (folder / "model_manager.py").is_file():
            return folder
    raise UsageError(
        f"this Flower app has no {REPO_FOLDER}/model_manager.py: write it with "
        "flops-fl flower export"
    )


def _result(values: dict[str, str | int | float], **records: object) -> RecordDict:
    return RecordDict({RESULT: ConfigRecord(values), **records})
