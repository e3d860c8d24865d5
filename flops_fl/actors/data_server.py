"""The ML data server of a learner node: an Arrow Flight server over a folder."""

from __future__ import annotations

import asyncio
import logging
from contextlib import closing

import datasets  # noqa: F401 - registers the Arrow extension types of its features
from prometheus_client import Counter

from flops_fl.data.shelf import Shelf
from flops_fl.errors import INTERRUPTED
from flops_fl.net.address import Address
from flops_fl.net.tls import Tls
from flops_fl.options.data import DataServeOptions
from flops_fl.process.health import Health, served
from flops_fl.process.memory import return_large_blocks
from flops_fl.process.signals import raise_on_signals, told_of_signals
from flops_fl.wire.flight.service import FlightService
from flops_fl.wire.hub.server import serve

log = logging.getLogger(__name__)

GRACE = 5.0  # seconds that open streams have to end after a signal


class DataHealth(Health):
    """Health and metrics of a data server."""

    def __init__(self) -> None:
        super().__init__()
        self._calls = Counter(
            "flops_data_calls", "Calls that ended", ["method", "outcome"], registry=self.registry
        )
        self._bytes = Counter(
            "flops_data_bytes", "Bytes of messages", ["direction"], registry=self.registry
        )

    def on_call(self, method: str, outcome: str, received: int, sent: int) -> None:
        """A call has ended."""
        self._calls.labels(method, outcome).inc()
        self._bytes.labels("received").inc(received)
        self._bytes.labels("sent").inc(sent)


def serve_data(options: DataServeOptions) -> int:
    """Serve a folder until a signal comes; returns the exit code.

    Raises:
        UsageError: the folder or the address cannot be used.
    """
    raise_on_signals()
    return_large_blocks()
    tls, health = options.tls(), DataHealth()
    with (
        closing(Shelf(options.dir_, options.quota)) as shelf,
        served(health, options.metrics),
        told_of_signals(lambda: None),
    ):
        asyncio.run(_serve(options, tls, shelf, health))
    return INTERRUPTED


async def _serve(
    options: DataServeOptions, tls: Tls | None, shelf: Shelf, health: DataHealth
) -> None:
    service = FlightService(shelf, stall=options.stall_timeout, told=health.on_call)
    serving = await serve(
        service.services,
        options.listen,
        tls,
        max_message=options.max_message,
        keepalive=options.keepalive,
    )
    stopped, loop = asyncio.Event(), asyncio.get_running_loop()

    def stop() -> None:
        loop.call_soon_threadsafe(stopped.set)

    with told_of_signals(stop):
        log.info(
            "%s is served on %s, %s", shelf.folder, Address(options.listen.host, serving.port),
            _who(tls),
        )  # fmt: skip
        health.not_ready = ""
        await stopped.wait()
    health.not_ready = "the data server is ending"
    await serving.stop(GRACE)
    service.close()
    log.info("the data server has ended")


def _who(tls: Tls | None) -> str:
    if tls and tls.ca:
        return "with TLS: certificates of devices put, those of learners read"
    return f"{'with' if tls else 'without'} TLS: whoever reaches it may put and read"
