"""Which folder a run gets, and whether a run in it may be replaced or resumed.

A folder holds one run. By default each new run gets a folder of its own, runs/NAME, runs/NAME-2
and so on, so nothing is overwritten. With --output the user names the folder. Then a new run sets
the results of a finished one aside, and needs --fresh where an unfinished one is. A process locks
the folder in which it works.
"""

from __future__ import annotations

import fcntl
import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from flops_fl.errors import UsageError
from flops_fl.options.training import TrainingOptions
from flops_fl.run.checkpoint import newest_round
from flops_fl.run.result import read_result

RUNS = Path("runs")


@contextmanager
def run_folder(options: TrainingOptions, project: str, source: str) -> Iterator[Path]:
    """Give the run's folder, locked until the context ends; an absolute path.

    Args:
        project: The project's name, which is the folder's if --output is not given.
        source: The repository's path or URL, as in result.json.

    Raises:
        UsageError: the folder cannot be used, a process works in it, or it holds an unfinished run
            and neither --resume nor --fresh was given.
    """
    made = options.output is None or not options.output.exists()
    made_runs = options.output is None and not RUNS.exists()
    path = options.output or _default(options, project, source)
    _require_writable(path)
    path = path.absolute()  # user code may change the working folder
    with _lock(path) as locked:
        if not locked:
            raise UsageError(
                f"another process works in {shown(path)}: wait for its end, or choose another "
                "--output"
            )
        if _unfinished(path) and not (options.resume or options.fresh):
            raise UsageError(
                f"{shown(path)} holds an unfinished run: go on with --resume, start anew with "
                "--fresh, which removes it, or choose another --output"
            )
        try:
            yield path
        finally:
            if made:
                with suppress(OSError):  # rmdir fails if a run has begun: the folder is not empty
                    path.rmdir()
                    if made_runs:
                        path.parent.rmdir()


def next_folder(project: str) -> Path:
    """The folder that the next new run of a project gets."""
    return _name(project, max(_numbered(project), default=0) + 1)


def shown(path: Path) -> Path:
    """A path for messages: relative to the working folder, if it lies in it."""
    with suppress(ValueError, OSError):
        return path.relative_to(Path.cwd())
    return path


def _default(options: TrainingOptions, project: str, source: str) -> Path:
    """The folder of a run of this project and repository to resume or replace, or a new one."""
    taken = _numbered(project)
    ours = [path for _, path in sorted(taken.items()) if _holds(path, project, source)]
    if ours and options.resume:
        return next((path for path in reversed(ours) if not _finished(path)), ours[-1])
    if ours:
        newest = ours[-1]
        again = newest_round(newest) == 0 or (_unfinished(newest) and not options.fresh)
        with _lock(newest) as idle:
            if idle and again:
                return newest
    return _new(project, max(taken, default=0) + 1)


def _numbered(project: str) -> dict[int, Path]:
    """The folders runs/NAME, runs/NAME-2, ... of a project, by number."""
    found = {}
    for path in RUNS.glob("*"):
        match = re.fullmatch(rf"{re.escape(project)}(?:-([1-9]\d*))?", path.name)
        if match:
            found[int(match.group(1) or 1)] = path
    return found


def _name(project: str, number: int) -> Path:
    return RUNS / (project if number == 1 else f"{project}-{number}")


def _new(project: str, number: int) -> Path:
    path = _name(project, number)
    try:
        path.mkdir(parents=True)
    except FileExistsError:  # another process was quicker
        return _new(project, number + 1)
    except OSError as error:
        raise _cannot_make(path, error) from None
    return path


def _holds(path: Path, project: str, source: str) -> bool:
    result = read_result(path)
    theirs = (result.get("repo") or {}).get("source") or ""
    return result.get("project_id") == project and _place(theirs) == _place(source)


def _place(source: str) -> str:
    """A source in one form, so that two ways to write a folder's path compare equal."""
    return os.path.realpath(source) if os.path.isdir(source) else source


def _finished(path: Path) -> bool:
    return read_result(path).get("status") == "completed"


def _unfinished(path: Path) -> bool:
    """Whether a new run here would lose work: an unfinished run with at least one round."""
    return newest_round(path) > 0 and not _finished(path)


@contextmanager
def _lock(path: Path) -> Iterator[bool]:
    """Lock a folder until the context ends; False if another process holds the lock.

    The kernel releases the lock of a process that was killed.
    """
    handle = os.open(path, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        except OSError:
            pass  # a file system without locks
        yield True
    finally:
        os.close(handle)


def _require_writable(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _cannot_make(folder, error) from None
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise UsageError(
            f"--output {folder} cannot be written ({error.strerror}): choose another folder"
        ) from None


def _cannot_make(folder: Path, error: OSError) -> UsageError:
    return UsageError(f"--output {folder} cannot be made ({error.strerror}): choose another folder")
