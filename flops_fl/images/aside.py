"""A folder that takes another's place when everything is in it, and never before."""

from __future__ import annotations

import fcntl
import glob
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path


@contextmanager
def aside(out: Path) -> Iterator[tuple[Path, Path]]:
    """Two folders beside `out`: one that takes its place if all goes well, and one to work in.

    What builds of the same folder have left that were killed is removed.
    """
    out.parent.mkdir(parents=True, exist_ok=True)
    prefix = f".{out.name}.flops-"
    with ExitStack() as stack:
        with _locked(out.parent):  # or another build could take a new folder for a left one
            for left in out.parent.glob(f"{glob.escape(prefix)}*"):
                with suppress(OSError), _locked(left, wait=False):
                    shutil.rmtree(left, ignore_errors=True)
            new = tempfile.TemporaryDirectory(
                prefix=prefix, dir=out.parent, ignore_cleanup_errors=True
            )
            temporary = Path(stack.enter_context(new))
            stack.enter_context(_locked(temporary))
        folder, work = temporary / "layout", temporary / "work"
        folder.mkdir()
        (work / "pyc").mkdir(parents=True)
        yield folder, work
        if out.exists():
            out.rename(temporary / "earlier")
        folder.rename(out)


@contextmanager
def _locked(folder: Path, *, wait: bool = True) -> Iterator[None]:
    """Hold a folder's lock, which ends with this process.

    Raises:
        BlockingIOError: another process holds it, and `wait` is false.
    """
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        yield
    finally:
        os.close(handle)
