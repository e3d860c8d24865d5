"""A TCP proxy that cuts, stalls and half-opens connections as networks do."""

import random
import socket
import threading
import time
from contextlib import suppress


class Proxy:
    """Forwards to `target`, HOST:PORT; the test cuts, stalls and half-opens its connections."""

    wrapper = options = ()  # of whoever goes through it: none

    def __init__(self, target):
        self.listen = target
        host, _, port = target.rpartition(":")
        self._target = (host, int(port))
        self._sockets, self.faults = [], []
        self._quiet_until = 0.0
        self._down_until = 0.0
        self._deaf = set()  # sockets whose bytes are swallowed from now on
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            if time.monotonic() < self._down_until:
                near.close()
                continue
            try:
                far = socket.create_connection(self._target)
            except OSError:
                near.close()
                continue
            self._sockets += [near, far]
            for source, sink in ((near, far), (far, near)):
                threading.Thread(target=self._pump, args=(source, sink), daemon=True).start()

    def _pump(self, source, sink):
        with suppress(OSError):
            while data := source.recv(65536):
                while (left := self._quiet_until - time.monotonic()) > 0:
                    time.sleep(left)
                if source not in self._deaf:
                    sink.sendall(data)
        for end in (source, sink):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def cut(self):
        """End all connections, in both directions."""
        for end in self._sockets:
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()
        self._sockets.clear()

    def outage(self, seconds):
        """End all connections, and let nobody through for a while."""
        self._down_until = time.monotonic() + seconds
        self.cut()

    def stall(self, seconds):
        """Pass nothing on for a while; nothing is lost."""
        self._quiet_until = time.monotonic() + seconds

    def half_open(self):
        """Swallow what comes, and end nothing: as when a machine loses its power."""
        self._deaf |= set(self._sockets)

    def misbehave(self, generator: random.Random):
        """One of them."""
        kind = generator.choice(["cut", "stall", "half-open"])
        self.faults.append(kind)
        {"cut": self.cut, "stall": lambda: self.stall(1.5), "half-open": self.half_open}[kind]()

    def close(self):
        self._listener.close()
        self.cut()
