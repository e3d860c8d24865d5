"""The aggregator process: model without data, rounds over the wire, observers, results."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Sequence
from functools import partial
from typing import TypeAlias

from flops_fl.actors.report import Report, keep, report_on
from flops_fl.core.aggregation import Strategy
from flops_fl.core.norm import NormLimit
from flops_fl.core.plan import Plan
from flops_fl.core.rounds import train
from flops_fl.core.seeding import seed_generators
from flops_fl.errors import Abort, FlopsError, UsageError
from flops_fl.flower.catalogue import strategy_for
from flops_fl.flower.stock_clients import FlowerService
from flops_fl.flower.values import METHOD as FLOWER_METHOD
from flops_fl.net.address import Address
from flops_fl.net.tls import Tls
from flops_fl.options.config import AggregatorOptions
from flops_fl.process.health import served
from flops_fl.process.memory import return_large_blocks
from flops_fl.process.signals import terminate_as_interrupt
from flops_fl.repo.contract import ManagedModel
from flops_fl.repo.source import Checkout, checkout
from flops_fl.types import Layout
from flops_fl.wire.hub.entries import Room
from flops_fl.wire.hub.hub import Hub
from flops_fl.wire.hub.server import serve
from flops_fl.wire.hub.stage import HubOptions
from flops_fl.wire.outbox import METHOD

GOODBYE_GRACE = 5.0  # seconds for learners to hear that it is over

Ending: TypeAlias = FlopsError | KeyboardInterrupt | None
"""What ended a run before its time, if anything did."""

Listening = Callable[[Address, Abort], None]
"""Called with the address served on and a function that ends the run."""


def aggregate(options: AggregatorOptions, on_listening: Listening | None = None) -> int:
    """Lead a whole federated training.

    Args:
        on_listening: Called once learners can join.

    Returns:
        The exit code: 0 done, 4 the federation failed, 130 interrupted.

    Raises:
        FlopsError: before the first round; afterwards it stands in result.json, too.
    """

    def play(report: Report, strategy: Strategy) -> Ending:
        try:
            return _Run(options, tls, report, strategy, on_listening).play()
        finally:
            terminate_as_interrupt()  # as before: the event loop had its own way

    terminate_as_interrupt()
    tls = options.tls()
    with checkout(options.repo) as repo:
        return lead(options, repo, play)


def lead(
    options: AggregatorOptions,
    repo: Checkout,
    play: Callable[[Report, Strategy], Ending],
) -> int:
    """Build the model without data, let `play` do the rounds, and leave the results.

    Returns, Raises: as `aggregate`.
    """
    return_large_blocks()
    # Building seeds the initial global model: same seed, same start.
    seed = partial(seed_generators, options.seed, "aggregator", 0, "build")
    model = ManagedModel(repo.path, before_build=seed)
    told = options.cohort | options.strategy_option
    strategy = strategy_for(model, options.strategy, told, seed=options.seed)
    report = report_on(options, repo, model, strategy)
    with served(report.health, options.metrics):
        return report.finish(play(report, strategy))


class _Run:
    """The rounds on their event loop, with the server around them."""

    def __init__(
        self,
        options: AggregatorOptions,
        tls: Tls | None,
        report: Report,
        strategy: Strategy,
        on_listening: Listening | None,
    ) -> None:
        self._options = options
        self._tls = tls
        self._report = report
        self._strategy = strategy
        self._on_listening = on_listening
        self._abort: FlopsError | None = None

    def play(self) -> Ending:
        """Serve and train; what ended it before its time, if anything did.

        Raises:
            UsageError: it could not begin.
        """
        try:
            asyncio.run(self._serve())
        except UsageError:
            raise  # nothing has begun: an earlier result in the folder stays
        except FlopsError as error:
            return error
        except (KeyboardInterrupt, asyncio.CancelledError) as error:
            return self._abort or KeyboardInterrupt(*error.args)
        return None

    async def _serve(self) -> None:
        options = self._options
        loop, main = asyncio.get_running_loop(), asyncio.current_task()
        assert main is not None

        def interrupt() -> None:
            if not main.cancelling():  # twice would cut the goodbyes short
                main.cancel()

        loop.add_signal_handler(signal.SIGTERM, interrupt)
        layout = Layout.of(self._report.state.parameters)
        observer = self._report.observers

        def on_presence(present: Sequence[str]) -> None:
            observer.on_wait(present, options.min_available_clients)

        hub = Hub(
            self._report.run.run_id,
            layout,
            HubOptions(
                setup=self._report.setup if options.mismatch == "refuse" else None,
                reconnect_timeout=options.reconnect_timeout,
                room=Room(spool=self._report.folder),
            ),
            on_presence=on_presence,
            on_join=observer.on_join,
            on_return=observer.on_return,
        )
        flower = FlowerService(hub.links, layout)
        services = {METHOD: hub.join, FLOWER_METHOD: flower.join}
        serving = await serve(services, options.listen, self._tls)

        def abort(error: FlopsError | None) -> None:
            self._abort = error
            loop.call_soon_threadsafe(interrupt)

        observer.on_start(self._report.run, self._report.state.history)
        reason, final = "interrupted", False
        self._report.health.not_ready = ""
        try:
            if self._on_listening:
                self._on_listening(Address(options.listen.host, serving.port), abort)
            on_presence([])
            plan = plan_of(options, self._report)
            await train(self._report.state, plan, hub, self._strategy, observer)
            reason, final = "completed", True
        except FlopsError as error:
            reason, final = f"failed: {error}", True
            raise
        finally:
            self._report.health.not_ready = "the run has ended"
            await hub.close(reason, final=final)
            await serving.stop(GOODBYE_GRACE)


def plan_of(options: AggregatorOptions, report: Report) -> Plan:
    """The rounds that the options ask for."""
    norm = options.max_update_norm
    return Plan(
        run_id=report.run.run_id,
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
