"""An HTTP port for orchestrators: metrics for Prometheus, and whether the process is ready.

``/metrics`` has Prometheus' text format. ``/healthz`` answers while the process lives. ``/readyz``
answers 200 if the process can do its work, else 503 with the reason. An actor may add pages of its
own. The port is read-only, and gives out neither the model nor data.
"""

from __future__ import annotations

import logging
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socketserver import TCPServer
from typing import Any

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, ProcessCollector
from prometheus_client.exposition import generate_latest

from flops_fl.errors import UsageError
from flops_fl.net.address import Address

log = logging.getLogger(__name__)

PATIENCE = 10.0  # seconds to wait for a request, or for the client to take a piece of an answer
UNASKED = 64  # connections that have not sent their request yet; beyond these the oldest is closed
STREAMS = 16  # streamed answers open at the same time; each occupies a thread
NOTHING = "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
"""The Content-Security-Policy of answers that are not HTML pages."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """The answer to a GET request."""

    body: bytes = b""
    status: int = 200
    kind: str = "text/plain; charset=utf-8"
    policy: str = NOTHING
    pieces: Callable[[], Iterator[bytes]] | None = None
    """If given, sent instead of `body`: a stream that lasts as long as the client listens."""


BUSY = Answer(status=503, body=f"{STREAMS} streams are open already; close one\n".encode())


class Health:
    """What an actor says about itself. Thread-safe."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)  # memory and processor time of this process
        self.not_ready = "starting"
        """Why the process is not ready; empty when it is."""
        self.pages: dict[str, Callable[[], Answer]] = {
            "/metrics": self._metrics,
            "/healthz": lambda: Answer(body=b"alive\n"),
            "/readyz": self._ready,
        }
        """The function that answers each path. It runs in a thread of the request's own."""

    def answer(self, path: str) -> Answer:
        """The answer to a GET of a path."""
        if path in self.pages:
            return self.pages[path]()
        return Answer(status=404, body=f"there are {', '.join(self.pages)}\n".encode())

    def _metrics(self) -> Answer:
        return Answer(kind=CONTENT_TYPE_LATEST, body=generate_latest(self.registry))

    def _ready(self) -> Answer:
        why = self.not_ready
        return Answer(status=503, body=f"{why}\n".encode()) if why else Answer(body=b"ready\n")


class _Unasked:
    """Connections whose request has not come yet. Who drips one may not use up the process's files,
    for learners need them, nor keep others from asking.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open: dict[socket.socket, None] = {}

    def add(self, connection: socket.socket) -> None:
        with self._lock:
            self._open[connection] = None
            if len(self._open) > UNASKED:
                oldest = next(iter(self._open))
                del self._open[oldest]
                with suppress(OSError):  # it is gone already
                    oldest.shutdown(socket.SHUT_RDWR)

    def remove(self, connection: socket.socket) -> None:
        with self._lock:
            self._open.pop(connection, None)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = UNASKED

    def __init__(self, listen: Address, health: Health) -> None:
        self.health = health
        self.streams = threading.BoundedSemaphore(STREAMS)
        self.unasked = _Unasked()
        self.address_family = socket.AF_INET6 if ":" in listen.host else socket.AF_INET
        super().__init__((listen.host, listen.port), _Request)

    def server_bind(self) -> None:
        TCPServer.server_bind(self)  # HTTPServer.server_bind would look up the host's name

    def process_request(self, request: Any, client_address: Any) -> None:
        self.unasked.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self.unasked.remove(request)
        super().shutdown_request(request)


class _Request(BaseHTTPRequestHandler):
    server: _Server
    timeout = PATIENCE  # a silent client does not hold a thread for ever

    def do_GET(self) -> None:
        self.server.unasked.remove(self.connection)
        answer = self.server.health.answer(self.path.partition("?")[0])
        streams = self.server.streams
        with suppress(OSError):  # the client has gone, or does not read
            if answer.pieces is None:
                self._send(answer)
            elif not streams.acquire(blocking=False):
                self._send(BUSY)
            else:
                try:
                    self._stream(answer, answer.pieces())
                finally:
                    streams.release()

    def _send(self, answer: Answer) -> None:
        self._head(answer)
        self.send_header("Content-Length", str(len(answer.body)))
        self.end_headers()
        self.wfile.write(answer.body)

    def _stream(self, answer: Answer, pieces: Iterator[bytes]) -> None:
        self._head(answer)
        self.end_headers()
        for piece in pieces:
            self.wfile.write(piece)

    def _head(self, answer: Answer) -> None:
        self.send_response(answer.status)
        self.send_header("Content-Type", answer.kind)
        self.send_header("Content-Security-Policy", answer.policy)
        self.send_header("Cross-Origin-Resource-Policy", "same-origin")
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("Referrer-Policy", "no-referrer")
        self.send_header("Cache-Control", "no-store")

    def log_message(self, format: str, *arguments: Any) -> None:
        """Log nothing: probes come every few seconds."""


@contextmanager
def served(health: Health, listen: Address | None) -> Iterator[int | None]:
    """Serve until the context ends; gives the port. Without an address, do nothing and give None.

    Raises:
        UsageError: the address cannot be listened on.
    """
    if listen is None:
        yield None
        return
    try:
        server = _Server(listen, health)
    except OSError as error:
        raise UsageError(
            f"--metrics {listen}: {error.strerror}. Choose another port, or stop what uses it"
        ) from None
    thread = threading.Thread(target=server.serve_forever, name="flops-metrics", daemon=True)
    thread.start()
    port: int = server.server_address[1]
    log.info("http://%s answers to %s", Address(listen.host, port), ", ".join(health.pages))
    try:
        yield port
    finally:
        server.shutdown()
        server.server_close()
