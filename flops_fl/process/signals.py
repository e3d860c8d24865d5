"""Tell an operator's interruption from a KeyboardInterrupt that user code raises by itself."""

from __future__ import annotations

import os
import signal
from types import FrameType

_asked = False


def raise_on_signals() -> None:
    """Let SIGINT and SIGTERM raise KeyboardInterrupt, and be remembered. Main thread only."""
    signal.signal(signal.SIGINT, _stop)
    terminate_as_interrupt()


def terminate_as_interrupt() -> None:
    """Let SIGTERM, with which containers are stopped, do what Ctrl-C does. Main thread only."""
    signal.signal(signal.SIGTERM, _stop)
    os.register_at_fork(after_in_child=_leave_children_alone)


def _leave_children_alone() -> None:
    """Let a process that user code forks end by SIGTERM, as its pools want it, and in silence."""
    if signal.getsignal(signal.SIGTERM) is _stop:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _stop(number: int, frame: FrameType | None) -> None:
    global _asked  # noqa: PLW0603 - signals are the process's
    _asked = True
    raise KeyboardInterrupt


def asked_to_stop() -> bool:
    """Whether a signal has come; always where `raise_on_signals` was not called."""
    return _asked or signal.getsignal(signal.SIGINT) is signal.default_int_handler
