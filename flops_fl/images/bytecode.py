"""Compiles the Python files of an image ahead, with a Python of the image's version."""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path, PurePosixPath

from flops_fl.errors import UsageError
from flops_fl.images.layers import Member

log = logging.getLogger(__name__)

_PROGRAM = Path(__file__).with_name("compiling.py")


class Bytecode:
    """Compiled files; bytecode is the same for all processors, so each file is compiled once."""

    def __init__(self, python: str, work: Path) -> None:
        """Compile for a version of Python, into an empty folder."""
        self._python, self._work = python, work
        self._program = _interpreter(python)
        self._keys: dict[tuple[str, Path], tuple[str, bytes]] = {}
        """What the bytecode of a file depends on, by its path in the image and where it is."""
        self._made: dict[tuple[str, bytes], Path] = {}
        if self._program is None:
            log.warning(
                "no Python %s is here, so the images have no bytecode and start more slowly: "
                "install it, or give --base an image with the Python that runs flops-fl",
                python,
            )

    def make(self, members: Iterable[Member]) -> None:
        """Compile the Python files among some members, in several processes."""
        if self._program is None:
            return
        lines = []
        for path, file in _sources(members):
            key = self._keys[path, file] = (path, hashlib.sha256(file.read_bytes()).digest())
            if key not in self._made:
                self._made[key] = self._work / f"{len(self._made)}.pyc"
                lines.append(f"{file}\t{self._made[key]}\t/{path}\n")
        _run(self._program, lines, self._work)

    def of(self, members: Iterable[Member]) -> list[Member]:
        """The bytecode that was made of the Python files among some members."""
        tag = f"cpython-{self._python.replace('.', '')}"
        return [
            Member(path=_beside(source[0], tag), content=self._made[key])
            for source in _sources(members)
            if (key := self._keys.get(source)) and self._made[key].exists()
        ]


def _sources(members: Iterable[Member]) -> Iterator[tuple[str, Path]]:
    """The Python files among some members: their paths in the image, and where they are."""
    for member in members:
        if member.path.endswith(".py") and isinstance(member.content, Path):
            yield member.path, member.content


def _beside(path: str, tag: str) -> str:
    file = PurePosixPath(path)
    return str(file.parent / "__pycache__" / f"{file.stem}.{tag}.pyc")


def _run(program: str, lines: Sequence[str], work: Path) -> None:
    """Compile in several processes; each gets a share of the lines."""
    environment = {name: value for name, value in os.environ.items() if name[:6] != "PYTHON"}
    environment["PYTHONHASHSEED"] = "0"
    many = len(os.sched_getaffinity(0))
    with ExitStack() as running:
        processes = []
        for start in range(min(many, len(lines))):
            share = work / f"share-{start}"
            share.write_text("".join(lines[start::many]), "utf-8")
            process = running.enter_context(
                subprocess.Popen(
                    [program, "-P", "-s", "-S", str(_PROGRAM), str(share)], env=environment
                )
            )
            running.callback(process.kill)
            processes.append(process)
        for process in processes:
            if (code := process.wait()) < 0:
                raise UsageError(
                    f"{program} was killed by {signal.Signals(-code).name} while it compiled: see "
                    "whether the memory was full, and try again"
                )
            if code:
                raise OSError(code, f"{program} cannot compile ({code})")


def _interpreter(python: str) -> str | None:
    """A Python of a version on this machine; None if there is none."""
    if python == f"{sys.version_info[0]}.{sys.version_info[1]}":
        return sys.executable
    found = shutil.which(f"python{python}")
    if found:
        said = subprocess.run(
            [found, "-c", "import sys; print('%d.%d' % sys.version_info[:2])"],
            capture_output=True,
            text=True,
            check=False,
        )
        if said.stdout.strip() == python:
            return found
    return None
