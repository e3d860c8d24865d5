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
    if simulation:
        import ray  # type: ignore[import-not-found,unused-ignore]  # noqa: F401
    with tempfile.TemporaryDirectory() as folder:
        home, port = Path(folder), free_port()
        env = {**os.environ, "FLWR_HOME": folder, "FLWR_TELEMETRY_ENABLED": "0"}
        env |= {"PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}"}
        connection = f'[superlink.bench]\naddress = "127.0.0.1:{port}"\ninsecure = true\n'
        (home / "config.toml").write_text('[superlink]\ndefault = "bench"\n\n' + connection)
        started = time.monotonic()
        link = ["flower-superlink", "--insecure", "--port", str(port)]
        running = [_start([*link, *(["--simulation"] if simulation else [])], env)]
        with together(running):
            wait_for(port)
            for index in range(0 if simulation else learners):
                node = ["flower-supernode", "--insecure", "--superlink", f"127.0.0.1:{port}"]
                config = f"partition-id={index} num-partitions={learners}"
                node += ["--port", str(free_port()), "--node-config", config]
                running.append(_start(node, env))
            output = home / "rounds.json"
            command = ["flwr", "run", str(APP), "bench", "--stream", "--run-config"]
            values = f"learners={learners} rounds={rounds} nbytes={nbytes}"
            command.append(f'{values} output="{output}"')
            if simulation:
                command += ["--federation-config", f"num-supernodes={learners}"]
            done = subprocess.run(
                [str(BIN / command[0]), *command[1:]],
                env=env, capture_output=True, text=True, timeout=TIMEOUT, check=False,
            )  # fmt: skip
            if not output.exists():
                raise RuntimeError((done.stdout + done.stderr)[-600:])
            return {"rounds": json.loads(output.read_text()), "wall": time.monotonic() - started}


def _start(command: list[str], env: dict[str, str]) -> subprocess.Popen[bytes]:
    quiet = subprocess.DEVNULL
    return subprocess.Popen(
        [str(BIN / command[0]), *command[1:]], env=env, stdin=quiet, stdout=quiet, stderr=quiet
    )
