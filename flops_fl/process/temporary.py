"""Temporary folders that do not outlive a kill for long: the next one made removes them."""

from __future__ import annotations

import fcntl
import glob
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from flops_fl.errors import UsageError


@contextmanager
def temporary_folder(
    prefix: str, where: Path | None = None, remedy: str = "set TMPDIR to another folder"
) -> Iterator[Path]:
    """A new folder that lasts as long as the context.

    Its lock ends with this process. Folders of the same prefix and user that nobody has locked were
    left by processes that were killed; they are removed.

    Args:
        prefix: What its name begins with, such as ``flops-fl-data-``. Nothing else may be called
            so: folders that another program has made have no lock.
        where: The folder to make it in; default: that of the system for temporary files.
        remedy: What a person can do where it cannot be made.

    Raises:
        UsageError: it cannot be made.
    """
    where = where or Path(tempfile.gettempdir())
    for left in where.glob(f"{glob.escape(prefix)}*"):
        with suppress(OSError), _locked(left):
            shutil.rmtree(left, ignore_errors=True)
    # Locked before it has its name: no other process can take it for a left one.
    with ExitStack() as cleanup:
        try:
            unnamed = Path(tempfile.mkdtemp(prefix=".flops-new-", dir=where))
            cleanup.enter_context(_locked(unnamed))
            folder = unnamed.rename(where / f"{prefix}{unnamed.name.rpartition('-')[2]}")
        except OSError as error:
            raise UsageError(
                f"no folder can be made in {where} ({error.strerror}): make room there, or {remedy}"
            ) from error
        cleanup.callback(shutil.rmtree, folder, ignore_errors=True)
        yield folder


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Hold a folder's lock.

    Raises:
        OSError: another process holds it, or it is no folder of this user.
    """
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        if os.fstat(handle).st_uid != os.geteuid():
            raise PermissionError
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(handle)
