"""Lower bounds: the user's own training and evaluation, and a learner's first Hello."""

from __future__ import annotations

import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.harness import ROOT


def seconds(learners: int, rounds: int) -> float:
    """Seconds to train and evaluate the digits with the scikit-learn example, on both cores."""
    processes = 2
    with tempfile.TemporaryDirectory() as folder:
        started = [_part(folder, learners, rounds, index, processes) for index in range(processes)]
        return max(float(process.communicate()[0]) for process in started)


def _part(
    folder: str, learners: int, rounds: int, index: int, processes: int
) -> subprocess.Popen[str]:
    code = f"""
import time
from functools import partial
from pathlib import Path
from flops_fl.flower.client import LearnerClient
from flops_fl.data.command import partition_command
from flops_fl.actors.learner import build_learner
parts = partition_command("digits", {learners}, "digits", Path({folder!r}) / "{index}", resize=28)
clients = [
    build_learner(Path("examples/mnist_sklearn"), f"l{{i}}", part.parent)
    for i, part in enumerate(parts) if i % {processes} == {index}
]
model = clients[0].get_parameters({{}})
started = time.monotonic()
for _ in range({rounds}):
    for client in clients:
        new, _, _ = client.fit(model, {{}})
    for client in clients:
        client.evaluate(new, {{}})
print(time.monotonic() - started)
"""
    return subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    )  # fmt: skip


def first_hello() -> float:
    """Seconds from a learner's start until its first bytes reach the aggregator's port."""
    from flops_fl.data.command import partition_command

    with tempfile.TemporaryDirectory() as folder, socket.create_server(("127.0.0.1", 0)) as server:
        (part, *_) = partition_command("digits", 3, "digits", Path(folder))
        started = time.monotonic()
        command = [sys.executable, "-m", "learner", "examples/numpy_minimal", "--learner-id", "a"]
        command += [
            "--aggregator",
            f"127.0.0.1:{server.getsockname()[1]}",
            "--data",
            str(part.parent),
        ]
        process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL)
        try:
            server.settimeout(60)
            link, _ = server.accept()
            with link:
                link.recv(1)
                return time.monotonic() - started
        finally:
            process.kill()
            process.wait()
