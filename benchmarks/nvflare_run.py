"""NVFlare as a peer. It has its own environment, because its pinned versions differ from ours."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from contextlib import suppress
from itertools import pairwise
from pathlib import Path

import psutil

from benchmarks.harness import ROOT, TIMEOUT

APP = ROOT / "benchmarks" / "nvflare_app"
HOME = ROOT / "build" / "bench-nvflare"
REQUIREMENT = "nvflare==2.9.*"


def nvflare_run(learners: int, rounds: int, nbytes: int) -> list[float]:
    """Seconds of each round but the last, from one task of a learner to its next.

    A task of NVFlare is evaluation and training together, with one exchange of parameters.

    Raises:
        RuntimeError: NVFlare could not be installed, or its run failed.
    """
    with tempfile.TemporaryDirectory() as folder:
        marks = Path(folder, "marks.json")
        where = {"HOME": folder, "NVFLARE_POC_WORKSPACE": str(Path(folder, "poc"))}
        python = _environment()
        env = {**os.environ, **where, "PATH": f"{python.parent}{os.pathsep}{os.environ['PATH']}"}
        command = [str(python), str(APP / "noop_job.py")]
        command += [str(learners), str(rounds), str(nbytes), str(marks)]
        try:
            _run(command, env=env, cwd=folder)
        finally:
            _end_all(folder)
        return [later - earlier for earlier, later in pairwise(json.loads(marks.read_text()))]


def _end_all(folder: str) -> None:
    """Stop the server and the clients, which NVFlare leaves running if a job fails."""
    for process in psutil.process_iter(["cmdline"]):
        if any(folder in word for word in process.info["cmdline"] or []):
            with suppress(psutil.NoSuchProcess):
                process.kill()


def _environment() -> Path:
    """The Python of NVFlare's environment, which the first use makes."""
    python, done = HOME / "bin" / "python", HOME / ".installed"
    if not done.exists():
        sys.stderr.write(f"installing {REQUIREMENT} into {HOME.relative_to(ROOT)} (once)\n")
        _run([sys.executable, "-m", "venv", "--clear", str(HOME)])
        _run([str(python), "-m", "pip", "install", "--quiet", REQUIREMENT])
        done.touch()
    return python


def _run(command: list[str], env: dict[str, str] | None = None, cwd: str | None = None) -> None:
    done = subprocess.run(
        command, env=env, cwd=cwd, capture_output=True, text=True, timeout=TIMEOUT, check=False
    )
    if done.returncode:
        raise RuntimeError((done.stdout + done.stderr)[-600:])
