"""`flwr run` as a peer: Flower's simulation engine, and a SuperLink with SuperNodes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.harness import ROOT, TIMEOUT, free_port, together, wait_for

APP = ROOT / "benchmarks" / "flower_app"
BIN = Path(sys.executable).parent


def flwr_run(learners: int, rounds: int, nbytes: int, *, simulation: bool) -> dict[str, Any]:
    """Run the no-op app; seconds of each round, and of the whole `flwr run`, start included.

    Raises:
        RuntimeError: Flower's simulation extra is missing, or the run failed.
    """
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder, "rounds.json")
        started = time.monotonic()
        config = f'learners={learners} rounds={rounds} nbytes={nbytes} output="{output}"'
        more: dict[str, Any] = {"learners": learners, "output": output, "simulation": simulation}
        _run_app(Path(folder), APP, config, **more)
        return {"rounds": json.loads(output.read_text()), "wall": time.monotonic() - started}


def flwr_repository(repo: str, learners: int, rounds: int, *more: str) -> list[float]:
    """Seconds of each round of an ML repository under Flower's simulation engine.

    Raises:
        RuntimeError: Flower's simulation extra is missing, or the run failed.
    """
    with tempfile.TemporaryDirectory() as folder:
        app, output = Path(folder, "app"), Path(folder, "out")
        command = [sys.executable, "-m", "flops_fl", "flower", "export", repo, *more, "--out", app]
        command += ["--learners", str(learners), "--rounds", str(rounds), "--no-tracking"]
        subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
        result = output / "result.json"
        more: dict[str, Any] = {"learners": learners, "output": result, "simulation": True}
        _run_app(Path(folder), app, f'output="{output}"', **more)
        return [entry["seconds"] for entry in json.loads(result.read_text())["rounds"]]


def _run_app(
    home: Path, app: Path, config: str, *, learners: int, output: Path, simulation: bool
) -> None:
    """Run `flwr run` to its end. It writes `output`; Flower keeps its own files in `home`."""
    if simulation:
        import ray  # type: ignore[import-not-found,unused-ignore]  # noqa: F401
    port = free_port()
    env = {**os.environ, "FLWR_HOME": str(home), "FLWR_TELEMETRY_ENABLED": "0"}
    env |= {"PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}"}
    connection = f'[superlink.bench]\naddress = "127.0.0.1:{port}"\ninsecure = true\n'
    (home / "config.toml").write_text('[superlink]\ndefault = "bench"\n\n' + connection)
    link = ["flower-superlink", "--insecure", "--port", str(port)]
    running = [_start([*link, *(["--simulation"] if simulation else [])], env)]
    with together(running):
        wait_for(port)
        for index in range(0 if simulation else learners):
            node = ["flower-supernode", "--insecure", "--superlink", f"127.0.0.1:{port}"]
            part = f"partition-id={index} num-partitions={learners}"
            node += ["--port", str(free_port()), "--node-config", part]
            running.append(_start(node, env))
        command = ["flwr", "run", str(app), "bench", "--stream", "--run-config", config]
        if simulation:
            command += ["--federation-config", f"num-supernodes={learners}"]
        done = subprocess.run(
            [str(BIN / command[0]), *command[1:]],
            env=env, capture_output=True, text=True, timeout=TIMEOUT, check=False,
        )  # fmt: skip
        if not output.exists():
            raise RuntimeError((done.stdout + done.stderr)[-600:])


def _start(command: list[str], env: dict[str, str]) -> subprocess.Popen[bytes]:
    quiet = subprocess.DEVNULL
    return subprocess.Popen(
        [str(BIN / command[0]), *command[1:]], env=env, stdin=quiet, stdout=quiet, stderr=quiet
    )
