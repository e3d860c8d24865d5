"""Standard streams that nobody reads, or that were closed: a process does its work all the same."""

from __future__ import annotations

import errno
import io
import os
import sys
from contextlib import suppress
from typing import Any, BinaryIO, cast

_GONE = (errno.EPIPE, errno.EIO, errno.EBADF)  # a pipe's reader, a terminal, the descriptor


def outlive_streams() -> None:
    """Let nothing that is printed fail, whatever becomes of stdout and stderr.

    A descriptor that is closed at the start is opened on nothing, or else the next file that is
    opened would get its number, and with it all that is printed. Before any file is opened.
    """
    for number in (0, 1, 2):
        if not _is_open(number):
            _to_nothing(number)
    # Streams that somebody has put in their place are theirs.
    if sys.stdout is sys.__stdout__:
        sys.stdout = _instead(sys.stdout, 1)
    if sys.stderr is sys.__stderr__:
        sys.stderr = _instead(sys.stderr, 2)


def lasting(descriptor: int, *, closefd: bool = True, **text: Any) -> io.TextIOWrapper:
    """A stream for text on which writing never fails.

    Args:
        text: As io.TextIOWrapper has it.
    """
    file = _Lasting(descriptor, "w", closefd=closefd)
    if text.get("write_through"):  # PYTHONUNBUFFERED; the same as Python's own
        return io.TextIOWrapper(cast(BinaryIO, file), **text)
    return io.TextIOWrapper(io.BufferedWriter(file), **text)


class _Lasting(io.FileIO):
    """What cannot be written is lost. Where nobody will read any more, what compiled code and
    subprocesses write there is lost without an error, too."""

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
