"""Calls uv, which resolves and installs packages for platforms other than this one.

Flower brings uv. It takes wheels alone here: a source package would be built for this machine.
"""

from __future__ import annotations

import errno
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from flops_fl.errors import UsageError


@dataclass(frozen=True, slots=True)
class Target:
    """For what packages are chosen."""

    platform: str
    """As OCI has it, such as ``linux/arm64``."""
    python: str
    """Such as ``3.12``."""
    uv_platform: str
    """As uv has it, such as ``aarch64-manylinux_2_36``."""


class Unsolvable(Exception):
    """No versions fit together; the text is uv's reason."""


def compile_requirements(
    lines: Sequence[str], target: Target, folder: Path, constraints: Path | None, *, cpu: bool
) -> str:
    """Resolve requirements; returns exact versions with hashes, as uv prints them.

    Args:
        lines: Requirements and options, as in a requirements file.
        folder: Where relative paths in them start.
        constraints: A requirements file with versions to prefer to all others.
        cpu: Take torch's wheels without CUDA.

    Raises:
        Unsolvable: no versions fit together.
        UsageError: uv is not here, or cannot do its work.
    """
    arguments = ["compile", "-", "--generate-hashes", "--no-header", "--annotation-style=line"]
    arguments += ["--constraints", str(constraints)] if constraints else []
    return _uv(arguments, target, folder, "\n".join(lines), cpu=cpu)


def install(requirements: Path, target: Target, folder: Path, site: Path, *, cpu: bool) -> None:
    """Install a requirements file with hashes into a folder.

    Raises:
        UsageError: see `compile_requirements`; also for a hash that is another.
    """
    arguments = ["install", "--target", str(site), "--no-deps", "--require-hashes"]
    try:
        _uv([*arguments, "-r", str(requirements)], target, folder, cpu=cpu)
    except Unsolvable as error:
        raise UsageError(f"packages for {target.platform} cannot be had ({error})") from None


def _uv(
    arguments: list[str], target: Target, folder: Path, said: str = "", *, cpu: bool = False
) -> str:
    command = [program(), "pip", *arguments, "--quiet", "--python", sys.executable]
    command += ["--python-version", target.python, "--python-platform", target.uv_platform]
    command += ["--only-binary", ":all:", *(["--torch-backend", "cpu"] if cpu else [])]
    environment = {**os.environ, "UV_PYTHON_DOWNLOADS": "never", "NO_COLOR": "1"}
    try:
        done = subprocess.run(
            command,
            input=said,
            capture_output=True,
            text=True,
            cwd=folder,
            env=environment,
            check=False,
        )
    except OSError as error:
        raise UsageError(f"uv cannot be run ({error}): install it again, pip install uv") from None
    if done.returncode == 0:
        return done.stdout
    if done.returncode == -signal.SIGXFSZ:
        raise OSError(errno.EFBIG, "uv may not write as large a file")
    if done.returncode < 0:
        raise UsageError(
            f"uv was killed by {signal.Signals(-done.returncode).name}: see whether the memory was "
            "full, and try again"
        )
    raise _reason(done.stderr, cpu=cpu)


def program() -> str:
    """The path of uv.

    Raises:
        UsageError: it is not installed.
    """
    beside = Path(sys.executable).with_name("uv")
    found = str(beside) if beside.exists() else shutil.which("uv")
    if found is None:
        raise UsageError("uv is needed to build images, but not installed: pip install uv")
    return found


def _reason(said: str, *, cpu: bool) -> Exception:
    """What uv has reported, in one sentence, as an error of its kind."""
    text = re.sub(r"\s+", " ", said.partition("\nhint:")[0]).replace("error: ", "", 1).strip()
    if "No space left" in said or "os error 28" in said:
        return OSError(errno.ENOSPC, "no space left for uv")
    because = text.partition("cause: ")[2] or text
    because = re.sub(r",? we can conclude that your requirements are unsatisfiable\.?", "", because)
    if "No solution found" in said and "network was disabled" not in said:
        return Unsolvable(because)
    offline = "network was disabled" in said
    if offline or re.search(r"Request failed|Failed to fetch|sending request|dns error", said):
        causes = because.split(" cause: ")
        causes = list(dict.fromkeys((causes[0], causes[-1])))
        return UsageError(
            f"the package index cannot be reached ({', '.join(causes)}): check the network, or "
            f"name a mirror, UV_INDEX=URL{' and no --cpu' if cpu else ''}; with UV_OFFLINE=1 uv "
            "takes what it has downloaded before"
        )
    return Unsolvable(because)
