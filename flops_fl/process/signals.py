"""Signals: what an operator's interruption does, and how it is told from a KeyboardInterrupt that
user code raises by itself."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType

from flops_fl.errors import INTERRUPTED
from flops_fl.process.lines import stamp

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_PR_SET_PDEATHSIG = 1  # prctl(2)
_asked = False
_tell: Callable[[], None] | None = None


@contextmanager
def ending_at_once() -> Iterator[None]:
    """Let a signal end the process, with a word, while modules are imported. Main thread only.

    There is nothing to tidy up yet, and what libraries make of a KeyboardInterrupt in the middle
    of their import is anything: another error, half a module, nothing at all.
    """
    before = {number: signal.getsignal(number) for number in _SIGNALS}
    for number, handler in before.items():
        if handler is not signal.SIG_IGN:  # as a shell does for what it runs in the background
            signal.signal(number, _end)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def ignore_signals() -> None:
    """All is done, and Python's own end is not worth an interruption."""
    if threading.current_thread() is threading.main_thread():
        for number in _SIGNALS:
            signal.signal(number, signal.SIG_IGN)


def raise_on_signals() -> None:
    """Let SIGINT and SIGTERM, with which containers are stopped, raise KeyboardInterrupt, and be
    remembered. Main thread only."""
    for number in _SIGNALS:
        signal.signal(number, _stop)
    os.register_at_fork(after_in_child=_leave_children_alone)


@contextmanager
def told_of_signals(tell: Callable[[], None]) -> Iterator[None]:
    """While it lasts, let signals call `tell` instead of raising: an event loop ends as it likes.

    One that has come before, and whose KeyboardInterrupt a library has swallowed, is told, too.
    """
    global _tell  # noqa: PLW0603 - signals are the process's
    before, _tell = _tell, tell
    try:
        if _asked:
            tell()
        yield
    finally:
        _tell = before


def end_with_parent(parent: int) -> None:
    """Let the kernel send SIGTERM when the parent, which has just forked us, ends (Linux; else no
    effect): nobody may be left to do it, and what user code has started is ended in good order."""
    prctl = getattr(ctypes.CDLL(None), "prctl", None)
    if prctl is not None:
        prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:  # it was quicker
            os._exit(INTERRUPTED)


def _leave_children_alone() -> None:
    """Let a process that user code forks end by SIGTERM, as its pools want it, and in silence."""
    if signal.getsignal(signal.SIGTERM) is _stop:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _end(number: int, frame: FrameType | None) -> None:
    with suppress(OSError, ValueError):
        said = f"{stamp(terminal=sys.stderr.isatty())}interrupted\n"
        os.write(sys.stderr.fileno(), said.encode())
    os._exit(INTERRUPTED)


def _stop(number: int, frame: FrameType | None) -> None:
    global _asked  # noqa: PLW0603
    _asked = True
    if _tell is None:
        raise KeyboardInterrupt
    _tell()


def asked_to_stop() -> bool:
    """Whether a signal has come; always where `raise_on_signals` was not called."""
    return _asked or signal.getsignal(signal.SIGINT) is signal.default_int_handler
