"""What user code prints, in a file for each learner.

We redirect descriptors 1 and 2, not only sys.stdout, since compiled libraries and subprocesses
print, too. Descriptors belong to the whole process. So this works only because the learners of a
process take turns on its main thread.
"""

from __future__ import annotations

import ctypes
import logging
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from flops_fl.errors import UsageError
from flops_fl.limits import LOG_SIZE
from flops_fl.process.files import open_files_allowed
from flops_fl.process.lines import speak
from flops_fl.process.streams import lasting

LEARNERS = "learners"  # the folder of these files in a run's folder
MOST_OPEN = 256  # files that are open at a time
TAIL = 8192  # bytes at the end of a file in which its last lines are looked for

log = logging.getLogger(__name__)

_CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|[^\x08]\x08")


class Prints:
    """Sends the output of each learner to a file of its own; does nothing without a folder."""

    def __init__(
        self, folder: Path | None, largest: int = LOG_SIZE, out: int = 1, err: int = 2
    ) -> None:
        self._folder = folder
        self._largest = largest
        self._out, self._err = out, err  # the original stdout and stderr, to go back to
        self._inside = False
        self._most = min(MOST_OPEN, open_files_allowed() // 4)
        self._files: dict[str, int] = {}  # open descriptors, the last used at the end
        self._made: set[Path] = set()
        self._libc = ctypes.CDLL(None)

    @contextmanager
    def of(self, learner: str) -> Iterator[None]:
        """Send all output in this context to the learner's file."""
        if self._folder is None or self._inside:
            yield
            return
        file = self._files.pop(learner, None)
        file = self._files[learner] = self._ready(log_of(self._folder, learner), file)
        self._turn(file, file)
        self._inside = True
        try:
            yield
        finally:
            self._inside = False
            self._turn(self._out, self._err)

    def _ready(self, path: Path, file: int | None) -> int:
        """Open the file, move it aside if it is too large, and set its time of last use."""
        try:
            if file is None:
                file = self._open(path)
            if os.fstat(file).st_size > self._largest:
                path.replace(path.with_name(path.name + ".1"))
                os.close(file)
                file = self._open(path)
            os.utime(file)  # so the newest file is that of the learner at work
        except OSError as error:  # no reason to stop training
            log.warning("%s cannot be written (%s): what is printed is lost", path, error.strerror)
            return os.open(os.devnull, os.O_WRONLY)
        return file

    def _open(self, path: Path) -> int:
        if len(self._files) >= self._most:
            os.close(self._files.pop(next(iter(self._files))))
        self._made.add(path)
        return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)

    def _turn(self, out: int, err: int) -> None:
        for stream in (sys.stdout, sys.stderr):
            with suppress(Exception):  # user code may have replaced the stream by any object
                stream.flush()
        self._libc.fflush(None)  # the buffers of C code
        os.dup2(out, 1)
        os.dup2(err, 2)

    def tidy(self) -> None:
        """Close the files, and delete empty ones."""
        for file in self._files.values():
            os.close(file)
        for path in self._made:
            with suppress(OSError):
                if path.stat().st_size == 0:
                    path.unlink()


@contextmanager
def prints_apart(folder: Path | None, largest: int = LOG_SIZE) -> Iterator[Prints]:
    """Keep learners' output in files in a folder; our log lines still go to the original stderr.

    A file of more than `largest` bytes is renamed to NAME.log.1 at its next use.

    Raises:
        UsageError: the folder cannot be made.
    """
    if folder is None:
        yield Prints(None)
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(
            f"--log-folder {folder} cannot be made ({error.strerror}): choose another"
        ) from None
    out, err = os.dup(1), os.dup(2)
    with lasting(err, encoding="utf-8", errors="replace") as lines:
        speak(lines)
        try:
            prints = Prints(folder, largest, out, err)
            yield prints
            prints.tidy()
        finally:
            speak()
            os.close(out)


def log_of(folder: Path, learner: str) -> Path:
    """The path of a learner's file."""
    return folder / f"{learner.replace('/', '_')}.log"


def last_lines(path: Path, count: int) -> list[str]:
    """The last lines of a file as a terminal would show them; none if there is no file."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - TAIL))
            text = file.read().decode("utf-8", "replace")
    except OSError:
        return []
    lines = [_shown(line) for line in text.split("\n")]
    return [line for line in lines if line.strip()][-count:]


def _shown(line: str) -> str:
    """A line after its carriage returns and backspaces, with which progress bars overwrite it."""
    line = line.rstrip("\r").rpartition("\r")[2]
    while (cleaned := _CONTROL.sub("", line)) != line:
        line = cleaned
    return line.replace("\x08", "")
