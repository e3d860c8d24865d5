"""What a process says: a line on stderr for each event, with the time where it is no terminal."""

from __future__ import annotations

import logging
import sys
import time
from contextlib import suppress
from typing import TextIO

OURS = "flops_fl"  # the logger; the root's is the user's own


def stamp(*, terminal: bool) -> str:
    """What a line begins with: nothing on a terminal, the local time in a log."""
    return "" if terminal else time.strftime("%Y-%m-%d %H:%M:%S ")


def speak(stream: TextIO | None = None) -> None:
    """Let all that our code logs be lines on `stream`, by default whatever sys.stderr is then.

    From INFO on, unless a level was set.
    """
    logger = logging.getLogger(OURS)
    logger.handlers[:] = [_Lines(stream)]
    logger.setLevel(logger.level or logging.INFO)
    logger.propagate = False


class _Lines(logging.Handler):
    def __init__(self, stream: TextIO | None) -> None:
        super().__init__()
        self._stream = stream

    def emit(self, record: logging.LogRecord) -> None:
        stream = self._stream or sys.stderr
        with suppress(OSError, ValueError):  # user code may have closed it
            warning = "warning: " if record.levelno >= logging.WARNING else ""
            stream.write(f"{stamp(terminal=stream.isatty())}{warning}{self.format(record)}\n")
            stream.flush()
