"""Handle SIGINT and SIGTERM, and tell them from a KeyboardInterrupt that user code raises."""

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
from flops_fl.process.lines import on_terminal, stamp

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_PR_SET_PDEATHSIG = 1  # prctl(2)
_asked = False
_tell: Callable[[], None] | None = None


@contextmanager
def ending_at_once() -> Iterator[None]:
    """Let a signal print a line and end the process while modules are imported. Main thread only.

    There is nothing to tidy up yet. A KeyboardInterrupt during an import is not reliable: a library
    may turn it into another error, leave half a module, or swallow it.
    """
    before = {number: signal.getsignal(number) for number in _SIGNALS}
    for number, handler in before.items():
        if handler is not signal.SIG_IGN:  # a shell ignores SIGINT for background jobs: so do we
            signal.signal(number, _end)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def ignore_signals() -> None:
    """Ignore signals from now on: the work is done, and Python only has to exit."""
    if threading.current_thread() is threading.main_thread():
        for number in _SIGNALS:
            signal.signal(number, signal.SIG_IGN)


def raise_on_signals() -> None:
    """Let SIGINT and SIGTERM raise KeyboardInterrupt, and remember them. Main thread only.

    SIGTERM is how containers are stopped.
    """
    for number in _SIGNALS:
        signal.signal(number, _stop)
    os.register_at_fork(after_in_child=_leave_children_alone)


@contextmanager
def told_of_signals(tell: Callable[[], None]) -> Iterator[None]:
    """Within the context, let signals call `tell` instead of raising, as an event loop needs.

    A library may have swallowed the KeyboardInterrupt of an earlier signal. So `tell` is called at
    once if a signal came before.
    """
    global _tell  # noqa: PLW0603 - handlers belong to the process
    before, _tell = _tell, tell
    try:
        if _asked:
            tell()
        yield
    finally:
        _tell = before


def end_with_parent(parent: int) -> None:
    """Let the kernel send us SIGTERM when our parent `parent` ends (Linux; else no effect).

    Call it right after the fork. A killed parent cannot end its children itself, and with SIGTERM
    they still end what user code has started.
    """
    prctl = getattr(ctypes.CDLL(None), "prctl", None)
    if prctl is not None:
        prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:  # the parent ended before the call
            os._exit(INTERRUPTED)


def _leave_children_alone() -> None:
    """Let SIGTERM silently end a process that user code forks, as multiprocessing pools expect."""
    if signal.getsignal(signal.SIGTERM) is _stop:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _end(number: int, frame: FrameType | None) -> None:
    with suppress(OSError, ValueError):
        said = f"{stamp(terminal=on_terminal(sys.stderr))}interrupted\n"
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
