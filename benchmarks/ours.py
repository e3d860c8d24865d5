"""flops-fl's side: the real hub, rounds and learners, with training that takes no time.

python -m benchmarks.ours aggregator SPEC      (JSON: learners, tensors, rounds, port, ...)
python -m benchmarks.ours learners SPEC NAME,NAME...
"""

from __future__ import annotations

import asyncio
import json
import resource
import sys
import tempfile
import time
from typing import Any

import numpy as np

from benchmarks.harness import TIMEOUT, finish, free_port, start, together, wait_for
from flops_fl.core.fedavg import FedAvg
from flops_fl.core.observer import Observer
from flops_fl.core.plan import Plan, State
from flops_fl.core.rounds import Training
from flops_fl.net.address import Address
from flops_fl.process.memory import freeze_imports, return_large_blocks
from flops_fl.types import Evaluation, Layout, Setup, Task, Update
from flops_fl.wire.hub.hub import Hub
from flops_fl.wire.hub.server import serve
from flops_fl.wire.hub.stage import HubOptions
from flops_fl.wire.line.dial import serve_workers
from flops_fl.wire.line.redial import DialOptions
from flops_fl.wire.transport import METHOD

MB = 1 << 20


def federation(
    learners: int, nbytes: int, rounds: int, *, processes: int | None = None, **more: Any
) -> dict[str, Any]:
    """Run one federation and return the aggregator's figures.

    Args:
        nbytes: Size of the model, float32, in tensors of at most 16 MiB unless `tensors`.
        processes: Number of processes that host the learners; default: one for each.
        more: `sleep`: seconds that a fit takes; `tensors`: their number; `through`: a port to
            dial for the first learner instead, such as a slow proxy's.
    """
    port, through = free_port(), more.pop("through", None)
    spec = {"learners": learners, "nbytes": nbytes, "rounds": rounds, "port": port, **more}
    names = [f"l{index:05d}" for index in range(learners)]
    count = min(processes or learners, learners)
    running = [start("benchmarks.ours", "aggregator", json.dumps(spec))]
    with together(running):
        wait_for(port)
        if through:
            own = {**spec, "port": through(port)}
            running.append(start("benchmarks.ours", "learners", json.dumps(own), names.pop(0)))
        for index in range(count):
            hosted = ",".join(names[index::count])
            if hosted:
                running.append(start("benchmarks.ours", "learners", json.dumps(spec), hosted))
        figures: dict[str, Any] = finish(running[0])
        return figures


def aggregator_process(learners: int, nbytes: int, rounds: int) -> dict[str, Any]:
    """Run `python -m aggregator`, with checkpoints and one tensor; return its result.json."""
    port = free_port()
    spec = {"learners": learners, "nbytes": nbytes, "port": port, "tensors": 1}
    with tempfile.TemporaryDirectory() as folder:
        options = ["--listen", f"127.0.0.1:{port}", "--rounds", rounds, "--min-clients", learners]
        options += ["--output", folder, "--no-tracking", "--json"]
        repo, env = "benchmarks/repos/noop", {"MODEL_BYTES": str(nbytes)}
        running = [start("aggregator", repo, *options, env=env)]
        with together(running):
            wait_for(port)
            for index in range(learners):
                name = f"l{index:05d}"
                running.append(start("benchmarks.ours", "learners", json.dumps(spec), name))
            out, _ = running[0].communicate(timeout=TIMEOUT)
            figures: dict[str, Any] = json.loads(out)
            return figures


def parameters(spec: dict[str, Any]) -> list[np.ndarray[Any, Any]]:
    """A model of `nbytes` bytes, float32."""
    total = spec["nbytes"] // 4
    count = spec.get("tensors") or max(1, spec["nbytes"] // (16 * MB))
    sizes = [total // count] * (count - 1) + [total - total // count * (count - 1)]
    return [np.zeros(size, np.float32) for size in sizes]


class Noop:
    """A worker that gives back what it got, after `sleep` seconds."""

    setup = Setup()

    def __init__(self, learner: str, layout: Layout, sleep: float) -> None:
        self.learner, self.layout, self._sleep = learner, layout, sleep

    def perform(self, task: Task, parameters: Any) -> Update | Evaluation:
        if task.stage == "fit":
            return Update(learner=self.learner, parameters=parameters, examples=10)
        return Evaluation(learner=self.learner, loss=0.5, examples=10, metrics={"accuracy": 0.5})


class Sleeping(Noop):
    """A worker whose fit takes time. It must not delay the others that its process hosts."""

    def perform(self, task: Task, parameters: Any) -> Update | Evaluation:
        if task.stage == "fit":
            time.sleep(self._sleep)
        return super().perform(task, parameters)


async def _aggregate(spec: dict[str, Any]) -> dict[str, Any]:
    return_large_blocks()  # as the aggregator does
    freeze_imports()
    start_model = parameters(spec)
    count = spec["learners"]
    minimums = dict.fromkeys(
        ("min_available_clients", "min_fit_clients", "min_evaluate_clients"), count
    )
    strategy = FedAvg(Layout.of(start_model), seed=0, **minimums)
    first: list[float] = []
    hub = Hub(
        "bench", Layout.of(start_model), HubOptions(),
        on_presence=lambda _: None if first else first.append(time.monotonic()),
    )  # fmt: skip
    serving = await serve({METHOD: hub.join}, Address("127.0.0.1", spec["port"]), None)
    await hub.gather(count, 600)
    joined = time.monotonic() - first[0]
    plan = Plan(
        run_id="bench", rounds=spec["rounds"], seed=0, min_available=count, min_fit=count,
        min_evaluate=count, round_timeout=600, join_timeout=600,
    )  # fmt: skip
    watch = _Answers()
    training = Training(State(parameters=start_model), plan, strategy, watch)
    del start_model  # a real training holds no second copy either
    state = await training.run(hub)
    with open("/proc/self/status") as status:
        threads = next(int(line.split()[1]) for line in status if line.startswith("Threads"))
    await hub.close("done", final=True)
    await serving.stop(2)
    history = state.history
    return {
        "rounds": [record.seconds for record in history],
        "failures": sum(len(record.failures) for record in history),
        "joined": joined,
        "threads": threads,
        "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        "answers": watch.seconds,
    }


class _Answers(Observer):
    """When each fit of the last round was settled, in seconds from the start of its stage."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._started = 0.0

    def on_stage(self, round: int, stage: str, learners: Any) -> None:
        self._started = time.monotonic()

    def on_answer(self, round: int, stage: str, learner: str, failure: str | None) -> None:
        if stage == "fit":
            self.seconds[learner] = time.monotonic() - self._started


def _learners(spec: dict[str, Any], names: list[str]) -> None:
    freeze_imports()  # as learners do
    sleep = spec.get("sleep", 0.0)
    kind = Sleeping if sleep else Noop
    layout = Layout.of(parameters(spec))
    workers = [kind(name, layout, sleep) for name in names]
    serve_workers(workers, DialOptions(address=Address("127.0.0.1", spec["port"])))


def main() -> None:
    role, spec = sys.argv[1], json.loads(sys.argv[2])
    if role == "learners":
        _learners(spec, sys.argv[3].split(","))
    else:
        sys.stdout.write(json.dumps(asyncio.run(_aggregate(spec))) + "\n")


if __name__ == "__main__":
    main()
