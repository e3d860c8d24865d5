"""`make flower`: train one repository on three engines, and compare the models.

The engines are our own, Flower's simulation engine, and a SuperLink with two SuperNodes; `flwr run`
starts the last two. Flower's files are in runs/flower/home.
"""

import json
import os
import shlex
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BIN = Path(sys.executable).parent
RUNS = ROOT / "runs" / "flower"
APP, HOME = RUNS / "app", RUNS / "home"
LEARNERS = 2
TRAINING = ["examples/mnist_sklearn", "--learners", str(LEARNERS), "--rounds", "3"]
TRAINING += ["--resize", "28", "--project-id", "digits"]
CONNECTIONS = """[superlink]
default = "simulation"

[superlink.simulation]
address = "127.0.0.1:{simulation}"
insecure = true

[superlink.deployment]
address = "127.0.0.1:{deployment}"
insecure = true
"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def environment(home: Path) -> dict[str, str]:
    path = f"{BIN}{os.pathsep}{os.environ['PATH']}"
    # Stop Flower's check for updates, and Ray's search for accelerators: neither is needed here.
    quiet = {"FLWR_TELEMETRY_ENABLED": "0", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}
    return {**os.environ, **quiet, "PATH": path, "FLWR_HOME": str(home)}


@contextmanager
def superlink(*options: str, nodes: int = 0):
    """Run a SuperLink and its SuperNodes within the ``with``; gives the SuperLink's port."""
    port, env = free_port(), environment(HOME)
    commands = [["flower-superlink", "--insecure", "--port", str(port), *options]]
    for index in range(nodes):
        node = ["flower-supernode", "--insecure", "--superlink", f"127.0.0.1:{port}"]
        node += ["--port", str(free_port())]
        node += ["--node-config", f"partition-id={index} num-partitions={nodes}"]
        commands.append(node)
    running = []
    try:
        for command in commands:
            print("$", shlex.join(command), flush=True)
            log = (RUNS / f"{command[0]}-{len(running)}.log").open("w")
            with log:
                running.append(
                    subprocess.Popen(
                        [str(BIN / command[0]), *command[1:]], env=env, stdout=log, stderr=log
                    )
                )
            if len(running) == 1:
                wait_for(port, running[0])
        yield port
    finally:
        for process in reversed(running):
            process.terminate()
        for process in running:
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def wait_for(port: int, process: subprocess.Popen) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and process.poll() is None:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.2)
    raise SystemExit(f"the SuperLink did not start: see {RUNS}/flower-superlink-0.log")


def call(*command: str) -> None:
    print("$", shlex.join(command), flush=True)
    subprocess.run(
        [str(BIN / command[0]), *command[1:]], cwd=ROOT, env=environment(HOME), check=True
    )


def flwr_run(where: str, port: int, *options: str) -> dict:
    """Run `flwr run` to its end; returns the content of result.json."""
    output = RUNS / where
    HOME.mkdir(parents=True, exist_ok=True)
    ports = {"simulation": port, "deployment": port}
    (HOME / "config.toml").write_text(CONNECTIONS.format(**ports))
    overrides = f'output="{output}" fresh=true'
    call("flwr", "run", str(APP), where, "--stream", "--run-config", overrides, *options)
    return result(output)


def result(folder: Path) -> dict:
    return json.loads((folder / "result.json").read_text())


def main() -> int:
    call("flops-fl", "simulate", *TRAINING, "--output", str(RUNS / "own"), "--fresh")
    call("flops-fl", "flower", "export", *TRAINING, "--out", str(APP))
    found = {"our own engine": result(RUNS / "own")}
    with superlink("--simulation") as port:
        nodes = ("--federation-config", f"num-supernodes={LEARNERS}")
        found["flwr run, simulation"] = flwr_run("simulation", port, *nodes)
    with superlink(nodes=LEARNERS) as port:
        found["flwr run, SuperLink"] = flwr_run("deployment", port)
    print()
    for engine, run in found.items():
        times = [entry["seconds"] for entry in run["rounds"]]
        accuracy = run["best"]["accuracy"]
        line = f"{engine:22} accuracy {accuracy:.3f}  {max(times):6.2f} s the longest round"
        print(line, f" model {run['model_sha256'][:16]}")
    same = len({run["model_sha256"] for run in found.values()}) == 1
    print("\nthe same model from all three, to the bit" if same else "\nerror: the models differ")
    return 0 if same else 1


if __name__ == "__main__":
    sys.exit(main())
