"""Keep a process working when stdout or stderr is closed or nobody reads it."""

from __future__ import annotations

import errno
import io
import os
import sys
from contextlib import suppress
from typing import Any, BinaryIO, cast

_GONE = (errno.EPIPE, errno.EIO, errno.EBADF)  # pipe without reader, no terminal, closed


def outlive_streams() -> None:
    """Replace stdout and stderr by streams on which writing never fails.

    If a descriptor is closed at the start, it is opened on /dev/null. Otherwise the next file that
    the process opens would get its number, and all output. So call this before any file is opened.
    """
    for number in (0, 1, 2):
        if not _is_open(number):
            _to_nothing(number)
    # A stream that somebody has put in place of Python's own stays.
    if sys.stdout is sys.__stdout__:
        sys.stdout = _instead(sys.stdout, 1)
    if sys.stderr is sys.__stderr__:
        sys.stderr = _instead(sys.stderr, 2)


def lasting(descriptor: int, *, closefd: bool = True, **text: Any) -> io.TextIOWrapper:
    """A stream for text on which writing never fails.

    Args:
        text: Keyword arguments of io.TextIOWrapper.
    """
    file = _Lasting(descriptor, "w", closefd=closefd)
    if text.get("write_through"):  # with PYTHONUNBUFFERED Python's own has no buffer either
        return io.TextIOWrapper(cast(BinaryIO, file), **text)
    return io.TextIOWrapper(io.BufferedWriter(file), **text)


class _Lasting(io.FileIO):
    """A file that drops what cannot be written.

    If its reader is gone for good, the descriptor is redirected to /dev/null, so that compiled code
    and subprocesses can write to it without an error, too.
    """

    def write(self, data: Any, /) -> int:
        try:
            return super().write(data)
        except OSError as error:
            if error.errno in _GONE:
                _to_nothing(self.fileno())
            return memoryview(data).nbytes


def _instead(stream: Any, number: int) -> io.TextIOWrapper:
    if stream is None:  # closed at the start
        return lasting(number, closefd=False, encoding="utf-8", errors="replace")
    with suppress(OSError, ValueError):
        stream.flush()
    return lasting(
        number, closefd=False, encoding=stream.encoding, errors=stream.errors,
        line_buffering=stream.line_buffering, write_through=stream.write_through,
    )  # fmt: skip


def _is_open(number: int) -> bool:
    try:
        os.fstat(number)
    except OSError:
        return False
    return True


def _to_nothing(number: int) -> None:
    nothing = os.open(os.devnull, os.O_RDWR)
    if nothing == number:
        os.set_inheritable(number, True)
        return
    os.dup2(nothing, number)
    os.close(nothing)
