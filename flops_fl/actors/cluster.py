"""A cluster aggregator: an aggregator to its learners, one learner to its root."""

from __future__ import annotations

import asyncio
import logging
import tempfile
from collections.abc import Callable, Mapping
from contextlib import closing
from functools import partial
from pathlib import Path

from flops_fl.actors.lead import Run, plan_of
from flops_fl.core.cycle import Cycles, Relay
from flops_fl.core.observer import Observer
from flops_fl.core.plan import State
from flops_fl.core.rounds import Training
from flops_fl.core.seeding import seed_build
from flops_fl.errors import FederationError, FlopsError, RepositoryError
from flops_fl.flower.building import strategy_for
from flops_fl.net.address import Address
from flops_fl.net.tls import Tls, own_name
from flops_fl.options.aggregator import AggregatorOptions
from flops_fl.options.training import MINIMUMS
from flops_fl.process.signals import raise_on_signals, told_of_signals
from flops_fl.repo.contract import ManagedModel
from flops_fl.repo.installed import installed_versions
from flops_fl.types import Evaluation, Layout, Parameters, Setup, Task, Update
from flops_fl.wire.hub.entries import Room
from flops_fl.wire.hub.hub import Hub
from flops_fl.wire.hub.server import Serving, serve
from flops_fl.wire.hub.stage import HubOptions
from flops_fl.wire.line.dial import converse
from flops_fl.wire.line.redial import DialOptions
from flops_fl.wire.transport import METHOD

log = logging.getLogger(__name__)


async def serve_root(
    options: AggregatorOptions, tls: Tls | None, run: Run, relay: Relay, hub: Hub
) -> None:
    """Join the root once enough learners are present, and work for it until its project ends.

    Raises:
        FederationError: there are too few learners, the root is out of reach, or its project
            failed.
        Refused: the root does not let this cluster in.
    """
    name = options.learner_id or own_name(tls)
    cycles = Cycles(name, run.training, relay, hub, rounds=options.rounds, observer=run.observer)
    worker = ClusterWorker(name, run.setup, cycles)
    if len(present := hub.present()) < options.min_available_clients:
        run.observer.on_wait(present, options.min_available_clients)
    if relay.root_run:
        log.info(
            "resumed in the root's run %s; if that has ended meanwhile nobody says so, and without "
            "a root this cluster ends after %g s (--connect-timeout)",
            relay.root_run, options.connect_timeout,
        )  # fmt: skip
    await _serve(worker, options, tls, hub, lambda _, event: log.info("[root] %s", event))


async def _serve(
    worker: ClusterWorker,
    options: AggregatorOptions,
    tls: Tls | None,
    hub: Hub,
    say: Callable[[str, str], None] = lambda name, event: None,
) -> None:
    assert options.root is not None
    await hub.gather(options.min_available_clients, options.join_timeout)
    dial = DialOptions(
        address=options.root,
        tls=tls,
        connect_timeout=options.connect_timeout,
        reconnect_timeout=options.root_timeout,
        greeting_timeout=options.greeting_timeout,
        max_backoff=options.max_backoff,
        keepalive=options.keepalive,
        remind=options.remind,
        stay=options.stay,
        whom="root",
        again="--root-timeout",
        on_event=say,
    )
    goodbye = await converse([worker], dial)
    if goodbye.failed:
        raise FederationError(f"the root's project has ended: {goodbye.reason}")


class ClusterWorker:
    """Does the tasks that the root sends to a cluster, which looks like a learner to the root."""

    def __init__(self, name: str, setup: Setup, cycles: Cycles) -> None:
        self.learner = name
        self.layout: Layout = cycles.layout
        self.setup = setup
        self._cycles = cycles

    async def perform(self, task: Task, parameters: Parameters) -> Update | Evaluation:
        """Run a cycle, or let the cluster's learners evaluate.

        Raises:
            FlopsError: the task failed; the connection to the root reports it.
        """
        try:
            if task.stage == "fit":
                return await self._cycles.fit(task, parameters)
            return await self._cycles.evaluate(task, parameters)
        except FlopsError as error:
            log.warning("[%s] cycle %d, %s: %s", self.learner, task.round, task.stage, error)
            if traceback := self._cycles.traceback:
                # Pass on the learners' own traceback, for the operator of the root.
                raise RepositoryError(str(error), stage=task.stage, traceback=traceback) from error
            raise
        except Exception as error:  # a bug, or a full disk: report it to the root at once
            log.exception("[%s] cycle %d, %s", self.learner, task.round, task.stage)
            raise FederationError(f"{type(error).__name__}: {error}") from error


def hub_options(options: AggregatorOptions, setup: Setup | None, spool: Path) -> HubOptions:
    """The hub's part of an aggregator's options.

    Args:
        setup: The setup with which the hub compares each learner's.
        spool: A folder for updates that wait for their turn.
    """
    return HubOptions(
        setup=setup if options.mismatch == "refuse" else None,
        reconnect_timeout=options.reconnect_timeout,
        hello_timeout=options.hello_timeout,
        stall_timeout=options.stall_timeout,
        keepalive=options.keepalive,
        room=Room(
            budget=options.memory_budget,
            opaque_update=options.opaque_update,
            spool=spool,
            patience=options.spool_patience,
        ),
    )


def host_clusters(
    options: AggregatorOptions,
    clusters: Mapping[str, int],
    seed: int,
    tell: Callable[[Mapping[str, str]], None],
) -> int:
    """Lead the clusters of a simulation on one event loop. Clusters write no results.

    Args:
        options: The options of every cluster; each waits for all its learners; a minimum
            of updates or evaluations that is not given is all, too.
        clusters: The number of learners by the cluster's name.
        seed: The run's seed.
        tell: Called with the clusters' addresses once learners can join.

    Returns:
        The exit code, 0.

    Raises:
        FlopsError: a cluster failed, or the root's project did.
    """
    raise_on_signals()
    folder = Path(options.repo)
    with closing(ManagedModel(folder, before_build=partial(seed_build, seed))) as model:
        try:
            asyncio.run(_Hosted(options, model).serve(clusters, tell))
        except asyncio.CancelledError:
            raise KeyboardInterrupt from None
    return 0


class _Hosted:
    """Clusters in one process, each with its own hub and its own connection to the root."""

    def __init__(self, options: AggregatorOptions, model: ManagedModel) -> None:
        versions = installed_versions(Path(options.repo))
        self._options = options
        self._model = model
        self._setup = Setup(versions=versions, state=model.beside())
        self._start = model.parameters()
        self._spool = Path(tempfile.gettempdir())

    async def serve(
        self, clusters: Mapping[str, int], tell: Callable[[Mapping[str, str]], None]
    ) -> None:
        loop, main = asyncio.get_running_loop(), asyncio.current_task()

        def end() -> None:
            assert main is not None
            loop.call_soon_threadsafe(main.cancel)

        with told_of_signals(end):
            await self._serve(clusters, tell)

    async def _serve(
        self, clusters: Mapping[str, int], tell: Callable[[Mapping[str, str]], None]
    ) -> None:
        hubs = {name: self._hub(name) for name in clusters}
        servings: dict[str, Serving] = {}
        try:
            for name, hub in hubs.items():
                servings[name] = await serve({METHOD: hub.join}, self._options.listen, None)
            host = self._options.listen.host
            tell({name: str(Address(host, serving.port)) for name, serving in servings.items()})
            async with asyncio.TaskGroup() as group:
                for name, learners in clusters.items():
                    group.create_task(self._lead(name, learners, hubs[name]))
        except BaseExceptionGroup as failed:
            raise failed.exceptions[0] from None
        finally:
            for serving in servings.values():
                await serving.stop(self._options.goodbye_timeout)

    def _hub(self, name: str) -> Hub:
        return Hub(name, self._model.layout, hub_options(self._options, None, self._spool))

    async def _lead(self, name: str, learners: int, hub: Hub) -> None:
        said = self._options.model_fields_set
        minimums = {least: learners for least in MINIMUMS[1:] if least not in said}
        update = {"min_available_clients": learners, **minimums}
        options = self._options.model_copy(update=update)
        relay = Relay(strategy_for(self._model, options.strategy, options.cohort, seed=0))
        plan = plan_of(options, name, self._spool)
        training = Training(State(parameters=self._start), plan, relay)
        cycles = Cycles(name, training, relay, hub, rounds=options.rounds, observer=Observer())
        reason, failed = "completed", False
        try:
            await _serve(ClusterWorker(name, self._setup, cycles), options, None, hub)
        except FlopsError as error:
            reason, failed = f"failed: {error}", True
            raise
        finally:
            await hub.close(reason, final=True, failed=failed)
