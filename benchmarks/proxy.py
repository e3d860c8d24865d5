"""A link of limited speed between a learner and the aggregator, as a TCP proxy."""

from __future__ import annotations

import socket
import threading
import time

PIECE = 16 << 10


def slow_port(target: int, bytes_per_second: float) -> int:
    """Listen on a port and forward to `target`, in each direction at most at that speed."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            client, _ = listener.accept()
            server = socket.create_connection(("127.0.0.1", target))
            for pair in ((client, server), (server, client)):
                threading.Thread(target=_pump, args=(*pair, bytes_per_second), daemon=True).start()

    threading.Thread(target=serve, daemon=True).start()
    return int(listener.getsockname()[1])


def _pump(source: socket.socket, sink: socket.socket, rate: float) -> None:
    # The buffers are small, since the limit does not slow bytes that go into a buffer.
    source.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, PIECE * 4)
    due = time.monotonic()
    try:
        while data := source.recv(PIECE):
            due = max(due, time.monotonic()) + len(data) / rate
            time.sleep(max(0.0, due - time.monotonic()))
            sink.sendall(data)
    except OSError:
        pass
    finally:
        for end in (source, sink):
            end.close()
