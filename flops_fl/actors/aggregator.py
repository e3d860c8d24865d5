"""The aggregator process, which runs the rounds over the network."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from flops_fl.actors.cluster import hub_options, serve_root
from flops_fl.actors.lead import Ended, Ending, Run, lead
from flops_fl.errors import Abort, FlopsError, UsageError
from flops_fl.flower.stock_clients import FlowerService, NoFlowerService
from flops_fl.flower.values import METHOD as FLOWER_METHOD
from flops_fl.flower.values import largest_message
from flops_fl.net.address import Address
from flops_fl.net.tls import Tls
from flops_fl.observers.notices import Notices
from flops_fl.options.aggregator import AggregatorOptions
from flops_fl.process.answer import Answer
from flops_fl.process.files import open_files_allowed
from flops_fl.process.signals import raise_on_signals, told_of_signals
from flops_fl.repo.source import checkout
from flops_fl.types import Layout
from flops_fl.wire.codec import MAX_FRAME
from flops_fl.wire.hub.hub import Hub
from flops_fl.wire.hub.server import serve, window_for
from flops_fl.wire.transport import METHOD

log = logging.getLogger(__name__)

UNSAVED = "there is no room for the results: the run is to be gone on with"

OWN_FILES = 64  # open files that an aggregator needs besides its learners' connections

Listening = Callable[[Address, Path, Abort], None]
"""Called with the address served on, the run's folder, and a function that ends the run."""


def aggregate(
    options: AggregatorOptions,
    on_listening: Listening | None = None,
    *,
    answer: Answer,
    greeted_under: int = 0,
    on_end: Ended | None = None,
) -> int:
    """Lead a whole federated training.

    Args:
        on_listening: Called once learners can join, if there is anything left for them to do.
        answer: Prints result.json, if --json is given.
        greeted_under: See `lead`.
        on_end: See `lead`.

    Returns:
        The exit code: 0 done, 4 the federation failed, 130 interrupted.

    Raises:
        FlopsError: the run failed; after it has begun, result.json has the error, too.
    """

    def play(run: Run) -> Ending:
        return _Serving(options, tls, run, on_listening).play()

    raise_on_signals()
    tls = options.tls()
    if options.json_:
        answer.apart()
    with (
        Notices(
            options.notify,
            options.notify_ca,
            actor="aggregator",
            project_id=options.project_id or "",
            details={"aggregator_type": f"{options.role.upper()}_AGGREGATOR"},
        ) as notices,
        checkout(options.repo, options.clone_timeout) as repo,
    ):
        return lead(
            options, repo, play, notices=notices, answer=answer, greeted_under=greeted_under,
            on_end=on_end,
        )  # fmt: skip


class _Serving:
    """Runs the rounds on an event loop, while a gRPC server accepts the learners."""

    def __init__(
        self,
        options: AggregatorOptions,
        tls: Tls | None,
        run: Run,
        on_listening: Listening | None,
    ) -> None:
        self._options = options
        self._tls = tls
        self._run = run
        self._on_listening = on_listening
        self._abort: FlopsError | None = None

    def play(self) -> Ending:
        """Serve and train; returns what ended the run early, or None.

        Raises:
            UsageError: the run could not begin.
        """
        try:
            # The start and the stop of gRPC's server must not be cancelled. So a signal that comes
            # in them is only remembered.
            with told_of_signals(lambda: None):
                asyncio.run(self._serve())
        except UsageError:
            raise  # nothing has begun: an earlier result in the folder stays
        except FlopsError as error:
            return error
        except (KeyboardInterrupt, asyncio.CancelledError) as error:
            if self._over:
                return None  # the signal came after the last round
            return self._abort or KeyboardInterrupt(*error.args)
        return None

    async def _serve(self) -> None:
        options = self._options
        run = self._run
        layout = Layout.of(run.training.state.parameters)

        def on_presence(present: Sequence[str]) -> None:
            run.observer.on_wait(present, options.min_available_clients)

        hub = Hub(
            run.info.run_id,
            layout,
            hub_options(options, run.setup, run.folder),
            on_presence=on_presence,
            on_join=run.observer.on_join,
            on_cut_off=run.observer.on_cut_off,
            on_return=run.observer.on_return,
        )
        limit, flower = MAX_FRAME, NoFlowerService().join
        if not options.no_flower_clients:
            flower = FlowerService(hub.links, layout).join
            # Flower sends the whole model in one message.
            limit = max(limit, largest_message(layout, options.opaque_update))
        services = {METHOD: hub.join, FLOWER_METHOD: flower}
        window = window_for(options.opaque_update if layout.opaque else layout.nbytes)
        serving = await serve(
            services,
            options.listen,
            self._tls,
            max_message=limit,
            window=window,
            keepalive=options.keepalive,
        )

        run.observer.on_start(run.info, run.training.state.history)
        run.health.not_ready = ""
        reason, final, failed = "the aggregator was interrupted", False, False
        try:
            with self._interruptible(hub) as abort:
                if not self._over:
                    address = Address(options.listen.host, serving.port)
                    self._say_where(address, abort)
                await self._play(hub)
            # If the state is not on disk, learners stay: a resumed run needs them.
            reason, final = ("completed", True) if run.kept() else (UNSAVED, False)
        except FlopsError as error:
            # A cluster's learners should not take for their own what went wrong with its root.
            where = "at this cluster's aggregator: " if options.is_cluster else ""
            reason, final, failed = f"failed: {where}{error}", True, True
            raise
        finally:
            run.health.not_ready = "the run has ended"
            await hub.close(reason, final=final, failed=failed)
            await serving.stop(options.goodbye_timeout)

    @property
    def _over(self) -> bool:
        """Whether no round is left; never for a cluster, since only its root knows."""
        return not self._options.is_cluster and self._run.training.over

    async def _play(self, hub: Hub) -> None:
        if self._run.relay is None:
            await self._run.training.run(hub)
        else:
            await serve_root(self._options, self._tls, self._run, self._run.relay, hub)

    def _say_where(self, address: Address, abort: Abort) -> None:
        if self._on_listening:
            self._on_listening(address, self._run.folder, abort)
        else:
            log.info("listening on %s, %s", address, _security(self._tls))
            if self._tls and not self._tls.ca:
                log.warning(
                    "without --tls-ca whoever reaches %s may join, under any name: give the "
                    "authority that signs the learners' certificates", address,
                )  # fmt: skip
            allowed, wanted = open_files_allowed(), self._options.min_available_clients
            if allowed < wanted + OWN_FILES:
                log.warning(
                    "%d learners (--min-available-clients) may be too many: this process may have "
                    "%d files and connections open, raise the limit (ulimit -n)", wanted, allowed,
                )  # fmt: skip

    @contextmanager
    def _interruptible(self, hub: Hub) -> Iterator[Abort]:
        """Within the ``with``, a signal or a call of the yielded function cancels this task."""
        loop, main = asyncio.get_running_loop(), asyncio.current_task()
        assert main is not None
        open_ = True

        def cancel() -> None:
            if open_ and not main.cancelling():
                hub.part()
                main.cancel()

        def interrupt(error: FlopsError | None = None) -> None:
            self._abort = error
            with suppress(RuntimeError):  # the loop has ended in the meantime
                loop.call_soon_threadsafe(cancel)

        try:
            with told_of_signals(interrupt):
                yield interrupt
        finally:
            open_ = False


def _security(tls: Tls | None) -> str:
    if tls is None:
        return "without TLS"
    return f"with TLS; learners need {'a' if tls.ca else 'no'} certificate"
