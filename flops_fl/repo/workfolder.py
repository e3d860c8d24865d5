"""The working folder of a repository's code: a mirror of the repository for one learner.

User code finds its files there under their relative names. What it writes there does not collide
with other learners' files, although they may share one repository, which may be read-only. Small
files are copied, so that user code may overwrite them. Large files, and folders with many
entries, are links.
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

SMALL = 256 << 10  # largest file that is copied, in bytes
COPIED = 16 << 20  # bytes that are copied of a whole repository at most
ENTRIES = 1000  # entries of all folders that are mirrored and not linked

_Stamp = tuple[int, int]


class WorkFolders:
    """A process's working folders for one repository; learners that wrote nothing share one.

    Args:
        source: The repository's folder.
        keep_in: Folder that receives what learners have written, in a subfolder for each. None:
            it stays in a temporary folder, and the log says where.
    """

    def __init__(self, source: Path, keep_in: Path | None = None) -> None:
        self._source = source.resolve()
        self._keep_in = keep_in
        self._spare: _Mirror | None = None
        self._made: dict[_Mirror, str] = {}
        # Runs at the latest when the process ends or nobody refers to this object any more.
        self.close = weakref.finalize(self, _leave_all, self._made, keep_in, os.getpid())

    def of(self, name: str) -> WorkFolder:
        """The working folder of a learner (or the aggregator)."""
        return WorkFolder(self, name.replace("/", "_"))

    def take(self) -> _Mirror:
        """A mirror that nobody has written in and nobody is using."""
        mirror, self._spare = self._spare, None
        if mirror is None:
            try:
                mirror = _Mirror(self._source, self._empty())
            except OSError as error:
                where = self._keep_in or tempfile.gettempdir()
                raise UsageError(
                    f"cannot make a working folder for the repository's code in {where} "
                    f"({error.strerror}): make room there, or set TMPDIR to another folder"
                ) from error
            self._made[mirror] = ""
        return mirror

    def give(self, mirror: _Mirror, name: str) -> bool:
        """Return a mirror from `take`; True if `name` has written in it, so that it keeps it."""
        if mirror.touched():
            self._made[mirror] = name
            return True
        self._spare = mirror
        return False

    def leave(self, mirror: _Mirror) -> None:
        """Remove a learner's own mirror, except for what it has written."""
        name = self._made.pop(mirror, None)
        if name is not None:
            _leave(mirror, name, self._keep_in)

    def _empty(self) -> Path:
        if self._keep_in:
            self._keep_in.mkdir(parents=True, exist_ok=True)
        return Path(tempfile.mkdtemp(prefix="flops-", dir=self._keep_in))


class WorkFolder:
    """One learner's working folder: a shared mirror until its code writes something in it."""

    def __init__(self, folders: WorkFolders, name: str) -> None:
        self._folders = folders
        self._name = name
        self._own: _Mirror | None = None

    @contextmanager
    def entered(self) -> Iterator[None]:
        """Make it this process's working folder, and go back to the former one afterwards."""
        mirror = self._own or self._folders.take()
        before = os.open(".", os.O_PATH)  # the former folder may have been deleted or renamed
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
        """Remove the folder, except for what the learner has written."""
        if self._own is not None:
            self._folders.leave(self._own)
            self._own = None


class _Mirror:
    """A folder with the same entries as another, as copies and links."""

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
                    place.mkdir()  # holds the mirror itself, so it stays empty
                elif entry.is_dir(follow_symlinks=False) and not _is_apart(entry):
                    pending.append(Path(entry.path))
                elif entry.is_file() and entry.stat().st_size <= min(SMALL, room):
                    room -= self._copy(Path(entry.path), place)
                else:
                    self._link(Path(entry.path), place)

    def _copy(self, file: Path, place: Path) -> int:
        """Copy a file with its time, by which a later write is noticed; returns bytes copied."""
        try:
            shutil.copy2(file, place)
        except OSError:  # it cannot be read, and perhaps user code does not need it
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
        """Whether anything has been written in the mirror or removed from it."""
        try:
            return any(
                set(os.listdir(folder)) != names for folder, names in self._folders.items()
            ) or any(_stamp(place) != before for place, before in self._copies.items())
        except OSError:
            return True

    def warn_of_changes(self) -> None:
        """Warn once if user code has written to a linked file, which all learners share."""
        for file, before in list(self._shared.items()):
            with suppress(OSError):
                if _stamp(file) != before:
                    del self._shared[file]
                    log.warning(
                        "%s has been written to, but all learners of this repository share it: "
                        "files over %d KB are not copied, write to another name", file, SMALL >> 10
                    )  # fmt: skip

    def remove(self, *, empty_logs: bool) -> None:
        """Remove links, unchanged copies and folders that are empty then.

        Args:
            empty_logs: Also logs that user code has opened, at an import perhaps, and never
                written to: they are worth neither a folder nor a line.
        """
        for place in self._links:
            if place.is_symlink():
                place.unlink()
        for place, before in self._copies.items():
            with suppress(OSError):
                if _stamp(place) == before:
                    place.unlink()
        for folder, _, files in os.walk(self.path, topdown=False):
            for place in (Path(folder, name) for name in files if empty_logs):
                if place.suffix == ".log" and _is_empty(place):
                    place.unlink()
            if Path(folder).name == "__pycache__":
                shutil.rmtree(folder, ignore_errors=True)
            with suppress(OSError):
                Path(folder).rmdir()


def _leave_all(made: dict[_Mirror, str], keep_in: Path | None, process: int) -> None:
    if os.getpid() == process:  # not in a child that user code has forked
        for mirror, name in made.items():
            _leave(mirror, name, keep_in)


def _leave(mirror: _Mirror, name: str, keep_in: Path | None) -> None:
    mirror.remove(empty_logs=keep_in is None)
    if keep_in is None:
        if mirror.path.exists():
            log.info(
                "files that the repository's code has written in this process are in %s",
                mirror.path,
            )
    elif not mirror.path.exists():
        with suppress(OSError):  # not empty: other learners have left files
            keep_in.rmdir()
    else:
        names = (f"{name}-{number}" if number > 1 else name for number in count(1))
        mirror.path.rename(next(keep_in / free for free in names if not (keep_in / free).exists()))


def _is_empty(file: Path) -> bool:
    return not file.is_symlink() and file.stat().st_size == 0


def _is_apart(entry: os.DirEntry[str]) -> bool:
    """Whether a folder belongs to tools and may be large: .git, a virtual environment."""
    return entry.name.startswith((".", "__pycache__")) or Path(entry.path, "pyvenv.cfg").exists()


def _stamp(file: Path) -> _Stamp:
    found = file.stat()
    return found.st_mtime_ns, found.st_size
