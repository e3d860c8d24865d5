"""The folder in which a repository's code runs: it looks like the repository, and is its own.

What user code reads by a relative name is there. What it writes lies beside it and meets nobody
else's: several learners may share a repository, which may be read-only. Small files are copies,
so that they may be written over; large ones, and folders with many entries, are links.
"""

from __future__ import annotations

import logging
import os
import shutil
import stat
import tempfile
import weakref
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import count, islice
from pathlib import Path

from flops_fl.errors import UsageError

log = logging.getLogger(__name__)

SMALL = 256 << 10  # bytes of a file that is copied
COPIED = 16 << 20  # bytes that are copied of a whole repository
ENTRIES = 1000  # of all folders that are made, not linked

_Stamp = tuple[int, int]


class WorkFolders:
    """Those of one process for one repository; learners that have written nothing share one.

    Args:
        source: The repository's folder.
        keep_in: Folder that gets what learners have written, each under its name; None: it stays
            where temporary folders are, and a line says where.
    """

    def __init__(self, source: Path, keep_in: Path | None = None) -> None:
        self._source = source.resolve()
        self._keep_in = keep_in
        self._spare: _Mirror | None = None
        self._made: dict[_Mirror, str] = {}
        # Also when the process ends, or all forget about it.
        self.close = weakref.finalize(self, _leave_all, self._made, keep_in, os.getpid())

    def of(self, name: str) -> WorkFolder:
        """The one of a learner (or the aggregator)."""
        return WorkFolder(self, name.replace("/", "_"))

    def take(self) -> _Mirror:
        """One that nobody has written in, and nobody is in."""
        mirror, self._spare = self._spare, None
        if mirror is None:
            try:
                mirror = _Mirror(self._source, self._empty())
            except OSError as error:
                where = self._keep_in or tempfile.gettempdir()
                raise UsageError(
                    f"no working folder for the repository's code can be made in {where} "
                    f"({error.strerror}): make room there, or set TMPDIR to another folder"
                ) from error
            self._made[mirror] = ""
        return mirror

    def give(self, mirror: _Mirror, name: str) -> bool:
        """Give back what `take` gave; whether it has become `name`'s own."""
        if mirror.touched():
            self._made[mirror] = name
            return True
        self._spare = mirror
        return False

    def leave(self, mirror: _Mirror) -> None:
        """Remove somebody's own, but for what has been written."""
        name = self._made.pop(mirror, None)
        if name is not None:
            _leave(mirror, name, self._keep_in)

    def _empty(self) -> Path:
        if self._keep_in:
            self._keep_in.mkdir(parents=True, exist_ok=True)
        return Path(tempfile.mkdtemp(prefix="flops-", dir=self._keep_in))


class WorkFolder:
    """A learner's own, from the moment that its code has written something."""

    def __init__(self, folders: WorkFolders, name: str) -> None:
        self._folders = folders
        self._name = name
        self._own: _Mirror | None = None

    @contextmanager
    def entered(self) -> Iterator[None]:
        """Make it this process's working folder; afterwards it is what it was before."""
        mirror = self._own or self._folders.take()
        before = os.open(".", os.O_PATH)  # it may have lost its name
        os.chdir(mirror.path)
        try:
            yield
        finally:
            os.fchdir(before)
            os.close(before)
            mirror.warn_of_changes()
            if self._own is None and self._folders.give(mirror, self._name):
                self._own = mirror

    def close(self) -> None:
        """Remove it, but for what has been written."""
        if self._own is not None:
            self._folders.leave(self._own)
            self._own = None


class _Mirror:
    """A folder that looks like another."""

    def __init__(self, source: Path, path: Path) -> None:
        self.path = path
        self._copies: dict[Path, _Stamp] = {}
        self._links: list[Path] = []
        self._shared: dict[Path, _Stamp] = {}
        self._fill(source)
        folders = {Path(folder): {*below, *files} for folder, below, files in os.walk(path)}
        self._folders = folders

    def _fill(self, source: Path) -> None:
        room, entries = COPIED, 0
        pending = deque([source])
        while pending:
            folder = pending.popleft()
            target = self.path / folder.relative_to(source)
            with os.scandir(folder) as found:
                inside = list(found if folder == source else islice(found, ENTRIES + 1))
            if folder != source:
                if entries + len(inside) > ENTRIES:
                    self._link(folder, target)
                    continue
                target.mkdir()
            entries += len(inside)
            for entry in inside:
                place = target / entry.name
                if self.path.is_relative_to(entry.path):
                    place.mkdir()  # of our own files nobody wants a mirror
                elif entry.is_dir(follow_symlinks=False) and not _is_apart(entry):
                    pending.append(Path(entry.path))
                elif entry.is_file() and entry.stat().st_size <= min(SMALL, room):
                    room -= self._copy(Path(entry.path), place)
                else:
                    self._link(Path(entry.path), place)

    def _copy(self, file: Path, place: Path) -> int:
        """Bytes copied; the time is the file's, so that whatever is written to it changes it."""
        try:
            shutil.copy2(file, place)
        except OSError:  # it cannot be read, and perhaps need not be
            self._link(file, place)
            return 0
        place.chmod(place.stat().st_mode | stat.S_IWUSR)
        self._copies[place] = _stamp(place)
        return place.stat().st_size

    def _link(self, file: Path, place: Path) -> None:
        place.symlink_to(file)
        self._links.append(place)
        if file.is_file():
            self._shared[file] = _stamp(file)

    def touched(self) -> bool:
        """Whether anything has been written in it, or taken away."""
        try:
            return any(
                set(os.listdir(folder)) != names for folder, names in self._folders.items()
            ) or any(_stamp(place) != before for place, before in self._copies.items())
        except OSError:
            return True

    def warn_of_changes(self) -> None:
        """Say it, once, when a file has changed that whoever has this repository shares."""
        for file, before in list(self._shared.items()):
            with suppress(OSError):
                if _stamp(file) != before:
                    del self._shared[file]
                    log.warning(
                        "%s has been written to, which all learners share that use this folder: "
                        "files over %d KB are not copied, write to another name", file, SMALL >> 10
                    )  # fmt: skip

    def remove(self) -> None:
        """Remove what is still as it was made, and folders that are empty."""
        for place in self._links:
            if place.is_symlink():
                place.unlink()
        for place, before in self._copies.items():
            with suppress(OSError):
                if _stamp(place) == before:
                    place.unlink()
        for folder, _, _ in os.walk(self.path, topdown=False):
            if Path(folder).name == "__pycache__":
                shutil.rmtree(folder, ignore_errors=True)
            with suppress(OSError):
                Path(folder).rmdir()


def _leave_all(made: dict[_Mirror, str], keep_in: Path | None, process: int) -> None:
    if os.getpid() == process:  # and not a child that user code has forked
        for mirror, name in made.items():
            _leave(mirror, name, keep_in)


def _leave(mirror: _Mirror, name: str, keep_in: Path | None) -> None:
    mirror.remove()
    if keep_in is None:
        if mirror.path.exists():
            log.info("files that the repository's code has written are in %s", mirror.path)
    elif not mirror.path.exists():
        with suppress(OSError):  # others have left something
            keep_in.rmdir()
    else:
        names = (f"{name}-{number}" if number > 1 else name for number in count(1))
        mirror.path.rename(next(keep_in / free for free in names if not (keep_in / free).exists()))


def _is_apart(entry: os.DirEntry[str]) -> bool:
    """Whether a folder is for tools, and large: .git, a virtual environment."""
    return entry.name.startswith((".", "__pycache__")) or Path(entry.path, "pyvenv.cfg").exists()


def _stamp(file: Path) -> _Stamp:
    found = file.stat()
    return found.st_mtime_ns, found.st_size
