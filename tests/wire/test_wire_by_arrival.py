"""Asynchronous rounds are a policy on top of a stage: updates by arrival, in a buffer.

Nguyen et al. 2022 (FedBuff, arXiv:2106.06639): every learner works all the time; the aggregator
makes a step from every few updates that arrive, and gives the newest model to the learners that
sent them. So a task outlives the step in which it was given. flops-fl does not offer this: the
tests show that it could.
"""

import asyncio

import numpy as np

from flops_fl.core.mean import WeightedMean
from flops_fl.types import Deadline, Layout, LearnerFailure, Task, Update
from flops_fl.wire.hub.hub import Hub
from flops_fl.wire.hub.precedence import ByArrival
from flops_fl.wire.hub.stage import HubOptions
from tests.wire.fake_learner import FakeLearner

START = [np.zeros(70_000, np.float32)]  # beyond what travels inline: announced and granted


async def buffered(hub, parameters, *, goal, steps):
    """Make `steps` steps of `goal` updates each; the model, and the staleness of each update."""
    layout, staleness = Layout.of(parameters), []
    models = {0: parameters}  # by version: an update's change is to the model that it began with

    def task(version):
        # A key names a task, so that two of one learner are told apart.
        return Task(stage="fit", run_id="r", round=version + 1, version=version, seed=0)

    stage = hub.open(Deadline(timeout=60), lambda *_: None, ByArrival())
    stage.ask(dict.fromkeys(hub.present(), task(0)), hub.publish(0, parameters))
    versions = dict.fromkeys(hub.present(), 0)
    for version in range(1, steps + 1):
        mean = WeightedMean(layout)
        idle = []
        for _ in range(goal):
            answer = await stage.next()
            assert not isinstance(answer, LearnerFailure)
            began = versions[answer.learner]
            staleness.append(version - 1 - began)
            weight = 1 / np.sqrt(1 + staleness[-1])
            change = [
                weight * (new - old)
                for new, old in zip(answer.parameters, models[began], strict=True)
            ]
            mean.add(Update(learner=answer.learner, parameters=change, examples=1))
            idle.append(answer.learner)
        step = mean.result()
        models[version] = [old + new for old, new in zip(models[version - 1], step, strict=True)]
        stage.ask(dict.fromkeys(idle, task(version)), hub.publish(version, models[version]))
        versions |= dict.fromkeys(idle, version)
    stage.close()
    return models[steps], staleness


def test_a_buffered_policy_needs_no_more_than_a_stage():
    async def scenario():
        hub = Hub("r", Layout.of(START), HubOptions())
        quick, quicker, slow = (FakeLearner(hub, f"l{n}", Layout.of(START)) for n in range(3))
        for learner in (quick, quicker, slow):
            learner.connect()
        await hub.gather(3, 5)
        run = asyncio.create_task(buffered(hub, START, goal=2, steps=6))
        for turn in range(100_000):
            if run.done():
                break
            for learner in (quick, quicker) if turn % 5 else (quick, quicker, slow):
                if learner.task and (learner is not slow or quick.fits > 2 * slow.fits + 2):
                    learner.work()
            await asyncio.sleep(0)
        model, staleness = run.result()
        await hub.close("done", final=True)
        for learner in (quick, quicker, slow):
            learner.cut()
            await learner.stream
        return model, staleness, slow

    model, staleness, slow = asyncio.run(asyncio.wait_for(scenario(), 30))
    assert len(staleness) == 12
    assert slow.fits >= 1
    assert max(staleness) >= 1  # the slow one's task outlived the step in which it was given
    assert float(model[0].min()) > 0
    assert (model[0] == model[0][0]).all()


def test_one_that_announces_and_never_delivers_holds_nobody_beyond_grace():
    async def scenario():
        hub = Hub("r", Layout.of(START), HubOptions())
        good, silent = (FakeLearner(hub, f"l{n}", Layout.of(START)) for n in range(2))
        silent.upload = lambda: None  # it is granted, and sends nothing
        good.connect()
        silent.connect()
        await hub.gather(2, 5)
        deadline = Deadline(timeout=60, quorum=1, grace=0.05)
        task = Task(stage="fit", run_id="r", round=1, version=0, seed=0)
        stage = hub.ask(dict.fromkeys(["l0", "l1"], task), START, deadline, lambda *_: None)
        for learner in (silent, good):
            while learner.task is None:
                await asyncio.sleep(0)
            learner.work()
        answers = [await stage.next(), await stage.next()]
        stage.close()
        await hub.close("done", final=True)
        return answers

    update, failure = asyncio.run(asyncio.wait_for(scenario(), 30))
    assert update.learner == "l0"
    assert failure.reason == "announced, and not delivered within another 0.05 s (--grace)"
