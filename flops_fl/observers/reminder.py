"""Reminds of a long wait."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable


class Reminder:
    """Reports a long wait: first after some seconds, then after pauses that double.

    Beginning another wait costs nothing, since the thread looks at the clock when it wakes up.
    """

    def __init__(self, say: Callable[[float, float], None], after: float) -> None:
        self._say = say
        self._after = after
        self._began = time.monotonic()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="flops-console", daemon=True)

    def start(self) -> None:
        self._began = time.monotonic()
        self._thread.start()

    def begin(self) -> None:
        """Take note that another wait has begun."""
        self._began = time.monotonic()

    def stop(self) -> None:
        self._stopped.set()

    def _run(self) -> None:
        began, pause = self._began, self._after
        while not self._stopped.wait(began + pause - time.monotonic()):
            if began == self._began:
                waited = time.monotonic() - began
                self._say(time.time() - waited, waited)
                pause *= 2
            else:
                began, pause = self._began, self._after
