"""Write files so that a crash leaves no half of one, and raise the limit of open files."""

from __future__ import annotations

import os
import resource
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

MANY = 1 << 16


def allow_many_files() -> None:
    """Raise the limit of open files of this process and its children as far as the system permits.

    Each connection counts as an open file, and the usual limit in a shell is 256 or 1024.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MANY if hard == resource.RLIM_INFINITY else min(MANY, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with suppress(OSError, ValueError):  # some systems have a lower limit of their own
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def open_files_allowed() -> int:
    """How many files, connections among them, this process may have open."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return MANY if soft == resource.RLIM_INFINITY else soft


@contextmanager
def atomic(path: Path) -> Iterator[IO[bytes]]:
    """Open a file that replaces `path` when the context ends without an error.

    A crash at any instant leaves the old content or the new one, and at most one ``.part``
    file that the next write reuses (rename(2) is atomic; the folder is synced for its name).
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(path.name + ".part")
    try:
        with aside.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        aside.replace(path)
    except BaseException:
        aside.unlink(missing_ok=True)
        raise
    _sync(path.parent)


def create(path: Path, content: bytes, mode: int = 0o644) -> None:
    """Write a new file, which appears with its whole content and with this mode.

    Raises:
        FileExistsError: the file exists already; it stays as it is.
        OSError: it cannot be written.
    """
    aside = path.with_name(f"{path.name}.{os.getpid()}.part")
    aside.unlink(missing_ok=True)
    try:
        with os.fdopen(os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
            os.fchmod(file.fileno(), mode)  # open(2) applies the umask, fchmod(2) does not
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.link(aside, path)  # unlike a rename, a link never replaces a file
    finally:
        aside.unlink(missing_ok=True)
    _sync(path.parent)


def why(error: OSError) -> str:
    """Why a file cannot be read or written; for many files that were copied, that of the first."""
    if isinstance(error, shutil.Error) and error.args and isinstance(error.args[0], list):
        return str(error.args[0][0][-1])
    return error.strerror or str(error)


def _sync(folder: Path) -> None:
    opened = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)
