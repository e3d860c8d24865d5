"""A learner process: with one learner in a container, or with many under `simulate`."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from prometheus_client import Counter, Gauge

from flops_fl.actors.outcomes import Outcomes
from flops_fl.core.seeding import seed_build
from flops_fl.data.held import HeldData
from flops_fl.data.local import DataPlace, Place, place_of
from flops_fl.errors import FederationError
from flops_fl.flower.client import ClientWorker, LearnerClient
from flops_fl.flower.stock_server import serve_flower
from flops_fl.net.address import Address
from flops_fl.net.tls import own_name
from flops_fl.observers.notices import Notices
from flops_fl.options.learner import LearnerOptions
from flops_fl.process.health import Health, served
from flops_fl.process.lines import OURS
from flops_fl.process.memory import freeze_imports
from flops_fl.process.prints import Prints, prints_apart
from flops_fl.process.signals import raise_on_signals
from flops_fl.repo.contract import ManagedModel
from flops_fl.repo.installed import installed_versions
from flops_fl.repo.source import checkout
from flops_fl.repo.workfolder import WorkFolder, WorkFolders
from flops_fl.types import Setup
from flops_fl.wire.line.dial import serve_workers
from flops_fl.wire.line.redial import DialOptions

log = logging.getLogger(__name__)


class LearnerHealth(Health):
    """Health and metrics of a process with `count` learners: ready when all have joined."""

    def __init__(self, count: int) -> None:
        super().__init__()
        self.not_ready = "the model and its data are being loaded"
        self._count = count
        self._joined: set[str] = set()
        tasks, stages = "Fits and evaluations", ["stage", "outcome"]
        self._known: set[str] = set()
        self._returns = Counter(
            "flops_reconnects", "Connections made again after a loss", registry=self.registry
        )
        self._gauge = Gauge("flops_joined", "Learners connected", registry=self.registry)
        self._tasks = Counter("flops_tasks", tasks, stages, registry=self.registry)
        self._seconds = Gauge(
            "flops_task_seconds", "Seconds of the last one", ["stage"], registry=self.registry
        )

    def on_presence(self, learner: str, connected: bool) -> None:
        """A learner has joined, or lost its connection."""
        (self._joined.add if connected else self._joined.discard)(learner)
        if connected:
            self._returns.inc(learner in self._known)
            self._known.add(learner)
        self._gauge.set(len(self._joined))
        missing = self._count - len(self._joined)
        self.not_ready = f"{missing} of {self._count} not connected" if missing else ""

    @contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        """Count a task and measure its time."""
        started, outcome = time.monotonic(), "failed"
        try:
            yield
            outcome = "good"
        finally:
            self._seconds.labels(stage).set(time.monotonic() - started)
            self._tasks.labels(stage, outcome).inc()


@dataclass(frozen=True, slots=True)
class Hosting:
    """What a simulation tells its learners besides their options."""

    seed: int
    """The run's seed."""
    aggregators: Mapping[str, Address] = field(default_factory=dict)
    """The address of its cluster's aggregator, for each learner in a cluster."""


def learn(options: LearnerOptions, *, hosting: Hosting | None = None) -> int:
    """Build the learners, and train for the aggregator until the project ends.

    Args:
        hosting: Given in a simulation, whose aggregator is on the same terminal and reports how
            the run went.

    Returns:
        The exit code, 0.

    Raises:
        FlopsError: a learner could not start or join; also at the project's end, if the project
            failed or a learner's own code failed in each of its tasks.
    """
    if options.quiet:
        logging.getLogger(OURS).setLevel(logging.WARNING)
    freeze_imports()
    raise_on_signals()  # SIGTERM stops containers; treat it like Ctrl-C
    with Notices(
        options.notify, options.notify_ca, actor="learner", project_id=options.project_id or ""
    ):
        _learn(options, hosting)
    return 0


def _learn(options: LearnerOptions, hosting: Hosting | None) -> None:
    if options.refresh_data == "round":
        log.info("--refresh-data round: models depend on when data come; result.json tells by hash")
    tls = options.tls()
    ids = options.learner_id or [own_name(tls)]
    health, outcomes = LearnerHealth(len(ids)), Outcomes(hosted=hosting is not None)
    with checkout(options.repo, options.clone_timeout) as repo, ExitStack() as stack:
        stack.enter_context(served(health, options.metrics))
        setup = Setup(commit=repo.commit or "", versions=installed_versions(repo.path))
        prints = stack.enter_context(prints_apart(options.log_folder, options.log_size))
        folders = WorkFolders(repo.path, options.log_folder)
        stack.callback(folders.close)
        workers = []
        for name in ids:
            with prints.of(name):
                worker = ClientWorker(
                    _builder(options, repo.path, name, folders.of(name), setup),
                    partial(_task, health, prints, outcomes, name),
                    seed=hosting.seed if hosting else 0,
                    alone=len(ids) == 1,
                )
            stack.callback(worker.close)
            workers.append(worker)
        dial = DialOptions(
            address=options.aggregator,
            tls=tls,
            connect_timeout=options.connect_timeout,
            reconnect_timeout=options.reconnect_timeout,
            greeting_timeout=options.greeting_timeout,
            max_backoff=options.max_backoff,
            keepalive=options.keepalive,
            remind=options.remind,
            stay=options.stay,
            on_event=_say,
            on_presence=health.on_presence,
        )
        if options.protocol == "flower":
            goodbye = serve_flower(workers[0], dial)
        else:
            goodbye = serve_workers(workers, dial, hosting.aggregators if hosting else None)
    error = outcomes.verdict(goodbye)
    if not isinstance(error, FederationError):
        _say(ids[0], f"the project has ended: {goodbye.reason}")
    if error:
        raise error


def _builder(
    options: LearnerOptions, repo: Path, learner: str, work: WorkFolder, setup: Setup
) -> Callable[[int], LearnerClient]:
    data = place_of(options, max_backoff=options.max_backoff, keepalive=options.keepalive)

    def build(seed: int) -> LearnerClient:
        client = build_learner(
            repo,
            learner,
            data,
            options.data_tags,
            work=work,
            setup=setup,
            seed=seed,
            refreshes=options.refresh_data == "round",
        )
        if client.data and client.data.hash:
            _say(learner, str(client.data))
        return client

    return build


def build_learner(
    folder: Path,
    learner: str,
    data: Place | None,
    tags: Sequence[str] = (),
    *,
    work: WorkFolder | None = None,
    setup: Setup | None = None,
    seed: int = 0,
    refreshes: bool = False,
) -> LearnerClient:
    """Build a learner with its model and data; ``{id}`` in a tag stands for the learner's id.

    Args:
        work: The folder in which user code runs; None for a new one.
        setup: The learner's commit and packages; the state outside the parameters is added.
        seed: The seed of the model's build, the same for all learners and the aggregator.
        refreshes: Whether a fit takes data that have changed since the last one.

    Raises:
        FlopsError: the data cannot be loaded, or user code fails.
    """
    held = HeldData(DataPlace(data, tags, learner), learner, refreshes=refreshes)
    model = ManagedModel(folder, held.load, partial(seed_build, seed), work)
    setup = replace(setup or Setup(), state=model.beside())
    client = LearnerClient(model, learner, setup, held)
    client.attach_data()
    return client


@contextmanager
def _task(
    health: LearnerHealth, prints: Prints, outcomes: Outcomes, learner: str, stage: str
) -> Iterator[None]:
    with prints.of(learner), outcomes.of(learner, stage), health.timed(stage):
        yield


def _say(learner: str, event: str) -> None:
    log.info("[%s] %s", learner, event)
