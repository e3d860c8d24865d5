"""A port for orchestrators: metrics for Prometheus, and whether the process is ready.

``/metrics`` is Prometheus' text format, ``/healthz`` answers while the process lives, ``/readyz``
when it can do its work, else 503 and a sentence why not. No model and no data can be had here.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socketserver import TCPServer
from typing import Any

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, ProcessCollector
from prometheus_client.exposition import generate_latest

from flops_fl.errors import UsageError
from flops_fl.net.address import Address


class Health:
    """What an actor says about itself. Thread-safe."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)  # its memory and processor time
        self.not_ready = "starting"
        """Why it is not ready; empty when it is."""

    def answer(self, path: str) -> tuple[int, str, bytes]:
        """Status, content type and body for a path."""
        plain = "text/plain; charset=utf-8"
        if path == "/metrics":
            return 200, CONTENT_TYPE_LATEST, generate_latest(self.registry)
        if path == "/healthz":
            return 200, plain, b"alive\n"
        if path == "/readyz":
            why = self.not_ready
            return (503, plain, f"{why}\n".encode()) if why else (200, plain, b"ready\n")
        return 404, plain, b"there are /metrics, /healthz and /readyz\n"


@contextmanager
def served(health: Health, listen: Address | None) -> Iterator[int | None]:
    """Serve until the context ends; the port. Without an address, do nothing.

    Raises:
        UsageError: the address cannot be listened on.
    """
    if listen is None:
        yield None
        return

    family = socket.AF_INET6 if ":" in listen.host else socket.AF_INET

    class Handler(BaseHTTPRequestHandler):
        timeout = 10.0  # seconds; a client that says nothing does not keep a thread

        def do_GET(self) -> None:
            status, kind, body = health.answer(self.path.partition("?")[0])
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *arguments: Any) -> None:
            """Probes come every few seconds: nobody wants to read of them."""

    class Server(ThreadingHTTPServer):
        address_family = family
        daemon_threads = True

        def server_bind(self) -> None:
            TCPServer.server_bind(self)  # HTTPServer's own looks the host's name up

    try:
        server = Server((listen.host, listen.port), Handler)
    except OSError as error:
        raise UsageError(
            f"--metrics {listen}: {error.strerror}. Choose another port, or stop what uses it"
        ) from None
    thread = threading.Thread(target=server.serve_forever, name="flops-metrics", daemon=True)
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()
