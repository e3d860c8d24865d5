"""The benchmarks, one function each. A table has our row first, then the rows of the peers."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any

from benchmarks import bare, limits, peers
from benchmarks.data import data
from benchmarks.flwr_run import flwr_repository, flwr_run
from benchmarks.harness import ROOT, Table
from benchmarks.nvflare_run import nvflare_run
from benchmarks.ours import MB, aggregator_process, federation
from benchmarks.proxy import slow_port

SMALL, LARGE = 30_000, 100_000_000  # bytes
NOOP = "benchmarks/repos/noop"


def overhead(repeat: int, quick: bool) -> list[Table]:
    """2 learners, 30 KB, fit and evaluate, no training: a round."""
    table = Table("overhead", "2 learners, 30 KB model: seconds a round")
    rounds = 10 if quick else 200
    table.add("flops-fl", lambda: federation(2, SMALL, rounds)["rounds"][1:])
    if quick:
        return [table]
    table.add("Flower start_server", lambda: peers.run("flower", 2, SMALL, 50)["rounds"][1:])
    table.add(
        "Flower SuperLink",
        lambda: flwr_run(2, 1 + repeat, SMALL, simulation=False)["rounds"][1:],
    )
    table.add("NVFlare", lambda: nvflare_run(2, 10, SMALL)[1:])
    table.add("gRPC alone, warm streams", lambda: limits.run(2, SMALL, rounds)["rounds"])
    return [table]


def bulk(repeat: int, quick: bool) -> list[Table]:
    """8 learners, 100 MB: a round, and the aggregator's peak memory."""
    table = Table("bulk", "8 learners, 100 MB model: seconds a round")
    memory = Table("bulk-memory", "the same: aggregator's peak memory, MB")
    rounds = 2 if quick else 2 + repeat
    contestants: dict[str, Callable[[], dict[str, Any]]] = {
        "flops-fl": lambda: federation(8, LARGE, rounds),
        "Flower start_server": lambda: peers.run("flower", 8, LARGE, 3),
        "gRPC alone, warm streams": lambda: limits.run(8, LARGE, rounds),
        "raw TCP, down and up": lambda: peers.run("tcp", 8, LARGE, rounds),
    }
    for who, run in contestants.items():
        found: list[dict[str, Any]] = []

        def work(run: Callable[[], dict[str, Any]] = run, found: Any = found) -> list[float]:
            found.append(run())
            return list(found[0]["rounds"][1:])

        table.add(who, work)
        if found:
            memory.add(who, lambda found=found: [found[0]["peak"] / 1e6], unit="MB")  # type: ignore[misc]
    return [table, memory]


def memory(repeat: int, quick: bool) -> list[Table]:
    """Peak memory by learners; one tensor of 2.5 GB; one slow learner among fast ones."""
    peak = Table("memory", "100 MB model: aggregator's peak memory, MB")
    for count in (8, 32):
        peak.add(
            f"flops-fl, {count} learners",
            lambda count=count: [federation(count, LARGE, 3, processes=8)["peak"] / 1e6],  # type: ignore[misc]
            unit="MB",
        )
    huge = Table("huge", "one tensor of 2.5 GB, 2 learners: aggregator's peak, times the model")
    size = 2_500_000_000
    huge.add(
        "python -m aggregator",
        lambda: [aggregator_process(2, size, 2)["peak_memory_bytes"] / size],
        unit="models",
    )
    slow = Table("slow", "4 MB model, 4 learners, one at 1 MB/s: seconds until the fit is settled")
    found: dict[str, float] = {}

    def crawl() -> list[float]:
        run = federation(4, 4 * MB, 3, through=lambda port: slow_port(port, 1e6))
        found.update(run["answers"])
        return [value for name, value in sorted(found.items())[1:]]

    slow.add("the three fast ones", crawl)
    slow.add("the slow one", lambda: [found["l00000"]])
    return [peak, huge, slow]


def scale(repeat: int, quick: bool) -> list[Table]:
    """1000 learners in 4 processes, and how a round's time grows with learners and bytes."""
    many = Table("scale", "1000 learners in 4 processes, 30 KB model")
    found: list[dict[str, Any]] = []

    def thousand() -> list[float]:
        found.append(federation(1000, SMALL, 3 + repeat, processes=4))
        return list(found[0]["rounds"][1:])

    many.add("a round", thousand)
    many.add(
        "gRPC alone, warm streams",
        lambda: limits.run(1000, SMALL, 3 + repeat, processes=4)["rounds"],
    )
    many.add("all joined", lambda: [found[0]["joined"]])
    many.add("aggregator's threads", lambda: [found[0]["threads"]], unit="threads")
    learners = Table("growth-learners", "1 MB model: seconds a round by number of learners")
    for count in (1, 2, 4, 8, 16, 32, 64):
        learners.add(
            str(count),
            lambda count=count: federation(count, MB, 6, processes=4)["rounds"][1:],  # type: ignore[misc]
        )
    sizes = Table("growth-bytes", "2 learners: seconds a round by size of the model, MB")
    for size in (1, 4, 16, 64, 256):
        sizes.add(str(size), lambda size=size: federation(2, size * MB, 5)["rounds"][1:])  # type: ignore[misc]
    return [many, learners, sizes]


def stragglers(repeat: int, quick: bool) -> list[Table]:
    """Learners whose fit sleeps 1 s; with Flower, each has its own process."""
    table = Table("stragglers", "learners whose fit sleeps 1 s: seconds a round")
    sleep = {"sleep": 1.0}
    table.add(
        "flops-fl, 64 learners", lambda: federation(64, SMALL, 2 + repeat, **sleep)["rounds"][1:]
    )
    table.add(
        "flops-fl, 16 learners", lambda: federation(16, SMALL, 2 + repeat, **sleep)["rounds"][1:]
    )
    table.add(
        "Flower start_server, 16 learners",
        lambda: peers.run("flower", 16, SMALL, 3, **sleep)["rounds"][1:],
    )
    return [table]


def simulate(repeat: int, quick: bool) -> list[Table]:
    """Whole simulations, start included."""
    noop = Table("simulate", "100 learners, 20 rounds, a no-op model: seconds, start included")
    noop.add("flops-fl simulate", lambda: _simulate(NOOP, repeat + 2, 100, 20))
    noop.add(
        "flwr run, simulation",
        lambda: [flwr_run(100, 20, SMALL, simulation=True)["wall"] for _ in range(repeat)],
    )
    digits = Table("simulate-digits", "the digits, scikit-learn, 10 learners, 10 rounds: seconds")
    digits.add("flops-fl simulate, the rounds", lambda: _rounds("examples/mnist_sklearn", 10, 10))
    digits.add("bare training and evaluation", lambda: [bare.seconds(10, 10) for _ in range(3)])
    work = ("examples/mnist_sklearn", 10, 10, "--resize", "28")
    digits.add("flwr run, simulation, the rounds", lambda: [sum(flwr_repository(*work))])
    return [noop, digits]


def tree(repeat: int, quick: bool) -> list[Table]:
    """Clusters between the learners and the root, against a flat federation."""
    many, traffic = 40 if quick else 2000, 8 if quick else 100
    time_ = Table("tree", f"{many} learners, 30 KB, a no-op model: seconds a round")
    down = Table("tree-traffic", f"{traffic} learners, 10 MB: MB through the root's link a round")
    plain = ("--data", "none")
    for who, more in (("flat", ()), ("20 clusters", ("--clusters", "20"))):
        time_.add(
            who,
            lambda more=more: seconds_of(_simulated(NOOP, many, 2 + repeat, *plain, *more)[1][1:]),  # type: ignore[misc]
        )
    for who, more in (("flat", ()), ("4 clusters", ("--clusters", "4"))):
        down.add(
            who,
            lambda more=more: [  # type: ignore[misc]
                (entry["bytes_down"] + entry["bytes_up"]) / 1e6
                for entry in _simulated(NOOP, traffic, 3, *plain, *more, nbytes=10_000_000)[1][1:]
            ],
            unit="MB",
        )
    return [time_, down]


def start(repeat: int, quick: bool) -> list[Table]:
    """How long a learner takes to start."""
    table = Table("start", "a learner's start: seconds")
    table.add("--help", lambda: [_time("-m", "learner", "--help") for _ in range(repeat + 2)])
    imports = "import numpy, flwr.client, datasets, grpc"
    table.add(
        "importing numpy, flwr, datasets, grpc alone",
        lambda: [_time("-c", imports) for _ in range(3)],
    )
    table.add(
        "start to first Hello (numpy example)", lambda: [bare.first_hello() for _ in range(3)]
    )
    return [table]


def _simulate(repo: str, repeat: int, learners: int, rounds: int) -> list[float]:
    return [_simulated(repo, learners, rounds, "--data", "none")[0] for _ in range(repeat)]


def _rounds(repo: str, learners: int, rounds: int) -> list[float]:
    runs = [_simulated(repo, learners, rounds, "--resize", "28")[1] for _ in range(3)]
    return [sum(seconds_of(run)) for run in runs]


def seconds_of(rounds: list[dict[str, Any]]) -> list[float]:
    """Seconds of each round of a result."""
    return [entry["seconds"] for entry in rounds]


def _simulated(
    repo: str, learners: int, rounds: int, *more: str, nbytes: int = SMALL
) -> tuple[float, list[dict[str, Any]]]:
    """Run a simulation; return its seconds, start included, and the rounds of its result."""
    with tempfile.TemporaryDirectory() as folder:
        started = time.monotonic()
        command = [sys.executable, "-m", "flops_fl", "simulate", repo, "--learners", str(learners)]
        command += ["--rounds", str(rounds), "--no-tracking", "--json", "--output", folder, *more]
        env = {**os.environ, "MODEL_BYTES": str(nbytes)}
        done = subprocess.run(
            command, cwd=ROOT, capture_output=True, text=True, env=env, check=False
        )
        if done.returncode:
            raise RuntimeError(done.stderr[-500:])
        return time.monotonic() - started, json.loads(done.stdout)["rounds"]


def _time(*arguments: str) -> float:
    started = time.monotonic()
    subprocess.run([sys.executable, *arguments], cwd=ROOT, capture_output=True, check=True)
    return time.monotonic() - started


ALL = {
    function.__name__: function
    for function in (overhead, bulk, memory, scale, stragglers, simulate, tree, start, data)
}
