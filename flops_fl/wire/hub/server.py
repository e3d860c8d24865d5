"""The aggregator's gRPC server: one event loop serves all learners, without a thread for each."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Collection, Coroutine, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, TypeAlias

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1.health import aio

from flops_fl.errors import UsageError
from flops_fl.limits import KEEPALIVE
from flops_fl.net.address import Address
from flops_fl.net.listening import bound
from flops_fl.net.tls import Tls
from flops_fl.wire.codec import MAX_FRAME
from flops_fl.wire.transport import channel_arguments

SMALLEST_WINDOW, LARGEST_WINDOW = 64 << 10, 8 << 20  # bytes


def window_for(nbytes: int) -> int:
    """HTTP/2's window of each stream, for a model of `nbytes` bytes.

    A stream holds at most this and one message in gRPC's buffers. The largest window carries
    80 MB/s over a link with a round trip of 100 ms.
    """
    return min(max(nbytes, SMALLEST_WINDOW), LARGEST_WINDOW)


WATCHERS = 16  # streams of the health service, each of which lasts as long as its client


class _Health(aio.HealthServicer):  # type: ignore[misc]
    """gRPC's health service, which strangers may ask, too.

    gRPC's own keeps the request of each stream that watches, 2 MiB at most, and any number of them.
    """

    def __init__(self, known: Collection[str]) -> None:
        super().__init__()
        self._known = known
        self._watching = 0

    async def Watch(self, request: Any, context: Any) -> None:  # noqa: N802 - gRPC's name
        """Tell the state of a service whenever it changes."""
        if request.service not in self._known:
            await context.abort(grpc.StatusCode.NOT_FOUND)
        if self._watching >= WATCHERS:
            await context.abort(
                grpc.StatusCode.RESOURCE_EXHAUSTED, f"{WATCHERS} clients watch already: use Check"
            )
        self._watching += 1
        try:
            await super().Watch(request, context)
        finally:
            self._watching -= 1


@dataclass(frozen=True, slots=True)
class Serving:
    """A running server that learners can join. `port` is the port that it listens on."""

    port: int
    _server: grpc.aio.Server
    _health: aio.HealthServicer

    async def stop(self, grace: float) -> None:
        """Let nobody in any more; end the streams that are still open after `grace` seconds."""
        await self._health.enter_graceful_shutdown()
        await self._server.stop(grace)


Join: TypeAlias = Callable[[AsyncIterator[bytes], Any], Coroutine[Any, Any, None]]
"""Serves one stream, given its requests and gRPC's context."""


async def serve(
    services: Mapping[str, Join],
    listen: Address,
    tls: Tls | None,
    *,
    max_message: int = MAX_FRAME,
    window: int = LARGEST_WINDOW,
    keepalive: float = KEEPALIVE,
) -> Serving:
    """Start serving bidirectional streams and gRPC's health service on one port.

    Args:
        services: For each gRPC method, the function that serves its streams.
        max_message: Bytes of the largest message accepted, after decompression.
        window: Bytes of a stream that are taken in before somebody reads them, see `window_for`.
        keepalive: Seconds between pings of an idle connection.

    Raises:
        UsageError: the server cannot listen on the address, or the TLS files are not valid.
    """
    bound(listen).close()  # gRPC's own error does not say that the port is in use
    server = grpc.aio.server(
        options=[
            *channel_arguments(max_message, keepalive),
            # Learners ping for hours while they train. gRPC would take that for abuse.
            ("grpc.http2.max_ping_strikes", 0),
            ("grpc.so_reuseport", 0),
            # gRPC's own estimate of the window has no limit: it grows with each stream that floods.
            ("grpc.http2.bdp_probe", 0),
            ("grpc.http2.lookahead_bytes", window),
        ]
    )
    for path, join in services.items():
        service, method = path.strip("/").split("/")
        handler = grpc.stream_stream_rpc_method_handler(_reading(join))
        server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler(service, {method: handler}),)
        )
    known = {"", *(path.split("/")[1] for path in services)}
    health = _Health(known)
    health_pb2_grpc.add_HealthServicer_to_server(health, server)
    try:
        if tls is None:
            port = server.add_insecure_port(str(listen))
        else:
            port = server.add_secure_port(str(listen), tls.for_listening())
    except RuntimeError as error:
        raise UsageError(f"cannot listen on {listen}: {error}") from None
    await server.start()
    for service in known:
        await health.set(service, health_pb2.HealthCheckResponse.SERVING)
    return Serving(port, server, health)


def _reading(join: Join) -> Any:
    """The handler of a method, whose requests are read from gRPC's context.

    gRPC's own iterator of requests keeps the last one until the garbage collector finds the stream,
    long after its end. Of streams that send one large message each, a hundred would be in memory.
    """

    async def requests(context: Any) -> AsyncGenerator[bytes]:
        while (frame := await context.read()) is not grpc.aio.EOF:
            yield frame
            del frame  # before the wait for the next one

    async def handler(_: Any, context: Any) -> None:
        async with aclosing(requests(context)) as frames:
            await join(frames, context)

    return handler
