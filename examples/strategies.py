"""Compare every strategy on the digits, and the robust ones against a hostile learner.

    python examples/strategies.py

This trains examples/numpy_fedprox in one process. Each strategy has its default options, 10
learners and 20 rounds, on an even partition of the digits and on one with skewed classes. Then one
of five learners multiplies its update by -10, which the checks of an update cannot detect. The
program prints the tables in docs/flower.md.
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
from flops_fl.flower.building import strategy_for
from flops_fl.flower.catalogue import FOR_TENSORS
from flops_fl.flower.client import ClientWorker
from flops_fl.repo.contract import ManagedModel
from flops_fl.types import Update

REPO = Path(__file__).resolve().parent / "numpy_fedprox"
LEARNERS, ROUNDS = 10, 20
SCHEMES = ("iid", "dirichlet:0.3")
ATTACKED = 5  # learners, and rounds
HOSTILE = "learner-4"
ROBUST = {
    "FedAvg": {},
    "FedMedian": {},
    "FedTrimmedAvg": {"beta": 0.2},
    "Krum": {"num_malicious_clients": 1},
    "Krum (single)": {"num_malicious_clients": 1, "num_clients_to_keep": 0},
}


class InProcess:
    """A `Cohort` whose learners run in this process."""

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
    """The parameters after the update has been multiplied by -10."""
    pairs = zip(before, after, strict=True)
    return [(old - 10 * (new - old)).astype(old.dtype) for old, new in pairs]


def learners(folder: Path, count: int, scheme: str = "iid") -> dict[str, ClientWorker]:
    """Learners by id, each with its own part of the digits in `folder`."""
    parts = partition_command("digits", count, "digits", folder, scheme=scheme)
    names = [f"learner-{index}" for index in range(count)]
    pairs = zip(names, parts, strict=True)
    return {
        name: ClientWorker(
            lambda seed, name=name, part=part: build_learner(REPO, name, part.parent, seed=seed)
        )
        for name, part in pairs
    }


def played(name: str, options: dict, workers: dict, rounds: int, hostile: str = "") -> list:
    """The accuracy after each round; the hostile learner evaluates honestly, too."""
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
    return [record.accuracy for record in state.history]


def defaults(folder: Path) -> Table:
    """Accuracy after the first, the fifth and the last round, at each strategy's defaults."""
    table = Table("strategy", *SCHEMES, title="rounds 1 / 5 / 20")
    workers = [learners(folder / scheme[:3], LEARNERS, scheme) for scheme in SCHEMES]
    for name in FOR_TENSORS:
        cells = [played(name, {}, each, ROUNDS) for each in workers]
        table.add_row(name, *(f"{c[0]:.3f} / {c[4]:.3f} / {c[-1]:.3f}" for c in cells))
    return table


def attack(folder: Path) -> Table:
    """Accuracy after five rounds, without and with a hostile learner."""
    table = Table("strategy", "all honest", "one of five hostile")
    workers = learners(folder, ATTACKED)
    for label, options in ROBUST.items():
        name = label.partition(" ")[0]
        honest = played(name, options, workers, ATTACKED)
        attacked = played(name, options, workers, ATTACKED, HOSTILE)
        table.add_row(label, f"{honest[-1]:.3f}", f"{attacked[-1]:.3f}")
    return table


def main() -> int:
    with tempfile.TemporaryDirectory() as folder:
        for number, table in enumerate((defaults, attack)):
            Console().print(table(Path(folder) / f"data-{number}"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
