"""One hostile learner of five: which strategies keep the model, and which do not.

    python examples/hostile.py

Trains examples/numpy_minimal on the digits, in one process, once without and once with a
learner that sends its update reversed and ten times as far, which no check can tell from a bad
day. Prints the table in docs/flower.md.
"""

import asyncio
import sys
import tempfile
from dataclasses import replace
from functools import partial
from pathlib import Path

from rich.console import Console
from rich.table import Table

from flops_fl.actors.learner import build_learner
from flops_fl.core.plan import Generated, Plan, State
from flops_fl.core.rounds import Training
from flops_fl.core.seeding import seed_build
from flops_fl.data.command import partition_command
from flops_fl.flower.catalogue import strategy_for
from flops_fl.flower.client import ClientWorker
from flops_fl.repo.contract import ManagedModel
from flops_fl.types import Update

REPO = Path(__file__).resolve().parent / "numpy_minimal"
LEARNERS, ROUNDS = 5, 5
HOSTILE = "learner-4"
STRATEGIES = {
    "FedAvg": {},
    "FedMedian": {},
    "FedTrimmedAvg": {"beta": 0.2},
    "Krum": {"num_malicious_clients": 1},
    "Krum (multi)": {"num_malicious_clients": 1, "num_clients_to_keep": 3},
}


class InProcess:
    """Learners in this process, as rounds see them."""

    def __init__(self, workers, hostile):
        self.workers, self.hostile = workers, hostile

    def present(self):
        return sorted(self.workers)

    def traffic(self):
        return 0, 0

    async def gather(self, minimum, timeout):
        pass

    def ask(self, tasks, parameters, deadline, on_answer):
        return Generated(self.answers(tasks, parameters, on_answer))

    async def answers(self, tasks, parameters, on_answer):
        for learner in sorted(tasks):
            answer = self.workers[learner].perform(tasks[learner], parameters)
            if isinstance(answer, Update) and learner == self.hostile:
                answer = replace(answer, parameters=poisoned(parameters, answer.parameters))
            on_answer(learner, None)
            yield answer


def poisoned(before, after):
    """The update reversed and ten times as far."""
    pairs = zip(before, after, strict=True)
    return [(old - 10 * (new - old)).astype(old.dtype) for old, new in pairs]


def learners(folder: Path, count: int = LEARNERS) -> dict[str, ClientWorker]:
    """Learners of the digits, each with a part of its own in `folder`."""
    parts = partition_command("digits", count, "digits", folder)
    names = [f"learner-{index}" for index in range(count)]
    pairs = zip(names, parts, strict=True)
    return {
        name: ClientWorker(
            lambda seed, name=name, part=part: build_learner(REPO, name, part.parent, seed=seed)
        )
        for name, part in pairs
    }


def accuracy(
    name: str, options: dict, workers: dict, hostile: str = "", rounds: int = ROUNDS
) -> float:
    """Of the final model, with all of them evaluating honestly."""
    model = ManagedModel(REPO, before_build=partial(seed_build, 0))
    minimums = dict.fromkeys(
        ("min_available_clients", "min_fit_clients", "min_evaluate_clients"), len(workers)
    )
    strategy = strategy_for(model, name, minimums | options, seed=0)
    plan = Plan(
        run_id="hostile", rounds=rounds, seed=0, min_available=len(workers), min_fit=1,
        min_evaluate=1, round_timeout=60, join_timeout=60,
    )  # fmt: skip
    start = State(parameters=model.parameters())
    cohort = InProcess(workers, hostile)
    state = asyncio.run(Training(start, plan, strategy).run(cohort))
    assert state.history[-1].accuracy is not None
    return state.history[-1].accuracy


def main() -> int:
    table = Table("strategy", "all honest", "one of five hostile")
    with tempfile.TemporaryDirectory() as folder:
        workers = learners(Path(folder))
        for label, options in STRATEGIES.items():
            name = label.partition(" ")[0]
            honest = accuracy(name, options, workers)
            attacked = accuracy(name, options, workers, HOSTILE)
            table.add_row(label, f"{honest:.3f}", f"{attacked:.3f}")
    Console().print(table)
    return 0


if __name__ == "__main__":
    sys.exit(main())
