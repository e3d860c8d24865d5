"""Log lines: one on stderr for each event, with the time unless stderr is a terminal."""

from __future__ import annotations

import logging
import sys
import time
from contextlib import suppress
from typing import TextIO

from flops_fl.text import without_secrets

OURS = "flops_fl"  # our logger; the root logger belongs to user code


def stamp(*, terminal: bool) -> str:
    """The start of a line: nothing on a terminal, the local time in a log."""
    return "" if terminal else time.strftime("%Y-%m-%d %H:%M:%S ")


def on_terminal(stream: TextIO) -> bool:
    """Whether a stream is a terminal, even while rich shows a bar there and stands before it."""
    return bool(getattr(stream, "rich_proxied_file", stream).isatty())


def speak(stream: TextIO | None = None) -> None:
    """Write our log records as lines to `stream`; by default to sys.stderr at the time of each.

    Records from INFO on are written, unless a level was set.
    """
    logger = logging.getLogger(OURS)
    logger.handlers[:] = [_Lines(stream)]
    logger.setLevel(logger.level or logging.INFO)
    logger.propagate = False


def be_heard() -> None:
    """Speak in a program that is not ours, unless it hears us already."""
    if not logging.getLogger(OURS).hasHandlers():
        speak()


class _Lines(logging.Handler):
    def __init__(self, stream: TextIO | None) -> None:
        super().__init__()
        self._stream = stream

    def emit(self, record: logging.LogRecord) -> None:
        stream = self._stream or sys.stderr
        with suppress(OSError, ValueError):  # user code may have closed it
            warning = "warning: " if record.levelno >= logging.WARNING else ""
            line = without_secrets(self.format(record))
            stream.write(f"{stamp(terminal=on_terminal(stream))}{warning}{line}\n")
            stream.flush()
