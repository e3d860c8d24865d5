"""A folder that takes another's place when everything is in it, and never before."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from flops_fl.errors import UsageError
from flops_fl.process.temporary import temporary_folder


@contextmanager
def aside(out: Path) -> Iterator[tuple[Path, Path]]:
    """Two folders beside `out`: one that takes its place if all goes well, and one to work in.

    Raises:
        UsageError: they cannot be made, or `out` cannot be replaced.
    """
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(
            f"--out {out} cannot be made ({error.strerror}): give another folder"
        ) from error
    remedy = "give a folder elsewhere with --out"
    with temporary_folder(f".{out.name}.flops-", out.parent, remedy) as temporary:
        folder, work = temporary / "layout", temporary / "work"
        folder.mkdir()
        (work / "pyc").mkdir(parents=True)
        yield folder, work
        try:
            if out.exists():
                out.rename(temporary / "earlier")
            folder.rename(out)
        except OSError as error:
            raise UsageError(
                f"--out {out} cannot be replaced ({error.strerror}): give another folder"
            ) from error
