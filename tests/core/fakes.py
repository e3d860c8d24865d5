"""Learners without a network, for rounds in memory."""

import asyncio
from dataclasses import replace

import numpy as np

from flops_fl.core.fedavg import FedAvg
from flops_fl.core.plan import Generated, Plan, State
from flops_fl.core.rounds import Training
from flops_fl.errors import FederationError
from flops_fl.types import Evaluation, Layout, LearnerFailure, Update

START = [np.zeros(3, np.float32), np.array([10, 20])]


class FakeCohort:
    """Learners that add their own number; those in `broken` fail."""

    def __init__(self, names, broken=(), poisoned=()):
        self.names, self.broken, self.poisoned = sorted(names), set(broken), set(poisoned)
        self.asked = []
        self.dismissed = {}

    def present(self):
        return self.names

    async def gather(self, minimum, timeout):
        if len(self.names) < minimum:
            raise FederationError(f"{len(self.names)} of {minimum}")

    def traffic(self):
        return (0, 0)

    def dismiss(self, learner, reason):
        self.names = [name for name in self.names if name != learner]
        self.dismissed[learner] = reason

    def ask(self, tasks, parameters, deadline, on_answer):
        return Generated(self._answers(tasks, parameters, on_answer))

    async def _answers(self, tasks, parameters, on_answer):
        self.asked.append((next(iter(tasks.values())).stage, sorted(tasks)))
        for name in sorted(tasks):
            task = tasks[name]
            await asyncio.sleep(0)
            if name in self.broken:
                on_answer(name, "broken")
                yield LearnerFailure(learner=name, stage="fit_model", reason="broken")
            elif task.stage == "fit":
                step = np.nan if name in self.poisoned else float(name[1:])
                on_answer(name, None)
                values = [parameters[0] + np.float32(step), parameters[1]]
                yield Update(learner=name, parameters=values, examples=int(name[1:]) + 1)
            else:
                on_answer(name, None)
                loss = float(parameters[0].sum())
                metrics = {"accuracy": 0.5}
                yield Evaluation(learner=name, loss=loss, examples=2, metrics=metrics)


def plan_of(rounds, **more):
    options = {"seed": 0, "min_available": 1, "min_fit": 1, "min_evaluate": 1}
    return Plan(run_id="r", rounds=rounds, round_timeout=9, join_timeout=9, **(options | more))


def play(
    cohort, rounds=2, observer=None, seed=0, min_fit=1, state=None, more=None, journal=None,
    started=None, **options,
):  # fmt: skip
    options = {
        "min_fit_clients": 1,
        "min_evaluate_clients": 1,
        "min_available_clients": 1,
    } | options
    plan = plan_of(rounds, seed=seed, min_fit=min_fit, **(more or {}))
    strategy = FedAvg(Layout.of(START), seed=seed, **options)
    training = Training(state or State(parameters=START), plan, strategy, observer, journal)
    if started is not None:
        started.append(training)
    return asyncio.run(training.run(cohort))


class Collecting(FakeCohort):
    """Learners that say what they have trained on: `said` by learner and round."""

    def __init__(self, said):
        super().__init__(said)
        self.said, self.round = said, 0

    async def _answers(self, tasks, parameters, on_answer):
        self.round += next(iter(tasks.values())).stage == "fit"
        async for answer in super()._answers(tasks, parameters, on_answer):
            if isinstance(answer, Update):
                answer = replace(answer, data=self.said[answer.learner][self.round - 1])  # noqa: PLW2901
            yield answer
