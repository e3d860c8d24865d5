"""Rounds over the hub, with learners that come, go, answer and fail in any order."""

import asyncio
from random import Random
from types import SimpleNamespace

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from flops_fl.core.fedavg import FedAvg
from flops_fl.core.plan import Plan, State
from flops_fl.core.rounds import Training
from flops_fl.types import Deadline, Layout, Task, Update, parameters_sha256
from flops_fl.wire.hub import stage as stage_
from flops_fl.wire.hub.entries import Room
from flops_fl.wire.hub.hub import Hub
from flops_fl.wire.hub.stage import HubOptions
from flops_fl.wire.messages import (
    Failure,
)
from tests.wire.fake_learner import FakeLearner

LARGE = [np.zeros(100_000, np.float32)]  # beyond what travels with its header
START = [np.zeros(5, np.float32), np.array(3)]
ROUNDS = 3


async def federation(start, names, disturb, budget):
    layout = Layout.of(start)
    hub = Hub("r", layout, HubOptions(room=Room(budget=budget, patience=0)))
    learners = [FakeLearner(hub, name, layout) for name in names]
    count = len(names)
    plan = Plan(
        run_id="r", rounds=ROUNDS, seed=0, min_available=count, min_fit=1, min_evaluate=1,
        round_timeout=60, join_timeout=60,
    )  # fmt: skip
    minimums = dict.fromkeys(
        ("min_available_clients", "min_fit_clients", "min_evaluate_clients"), count
    )
    strategy = FedAvg(Layout.of(start), seed=0, **minimums)
    whole = Training(State(parameters=start), plan, strategy)
    training = asyncio.create_task(whole.run(hub))
    async with asyncio.timeout(5):  # a deadlock would be seen here
        while not training.done():
            disturb(learners)
            await asyncio.sleep(0)
    state = training.result()
    await hub.close("done", final=True)
    for learner in learners:
        learner.cut()
        if learner.stream:
            await learner.stream
    return state, learners


def obedient(learners):
    for learner in learners:
        if not learner.connected:
            learner.connect()
        learner.work()


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 4), st.booleans())
def test_any_order_of_joins_losses_and_answers_gives_the_same_model(seed, count, large):
    random = Random(seed)
    start = LARGE if large else START
    names = [f"l{n}" for n in range(count)]
    expected, _ = asyncio.run(federation(start, names, obedient, 1 << 28))

    def disturb(learners):
        for learner in random.sample(learners, len(learners)):
            action = random.choice(["connect", "connect", "work", "work", "cut", "", ""])
            if action == "connect" and not learner.connected:
                learner.connect()
            elif action == "work":
                learner.work()
            elif action == "cut" and random.random() < 0.3:
                learner.cut()

    state, learners = asyncio.run(federation(start, names, disturb, random.choice([0, 1 << 19])))
    assert parameters_sha256(state.parameters) == parameters_sha256(expected.parameters)
    for record in state.history:
        assert record.learners == tuple(names)  # each once, none missing
        assert record.failures == ()
    assert [learner.fits for learner in learners] == [ROUNDS] * count  # nothing trained twice


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32))
def test_failures_cost_their_learner_only_that_stage(seed):
    random = Random(seed)
    names = ["l0", "l1", "l2"]

    def disturb(learners):
        obedient(learners[:1])
        for learner in learners[1:]:
            if not learner.connected:
                learner.connect()
            if learner.task and not learner.answer:
                if random.random() < 0.3:
                    failure = Failure(
                        key=learner.task.key, stage="fit_model", reason="broken", traceback=""
                    )
                    learner.answer = failure
                    learner.send(failure)
                else:
                    learner.work()

    state, _ = asyncio.run(federation(START, names, disturb, 1 << 28))
    for record in state.history:
        assert "l0" in record.learners
        failed_fits = {name for name in names if name not in record.learners}
        assert failed_fits <= {failure.learner for failure in record.failures}


def test_a_learner_that_is_gone_is_awaited_if_the_round_would_fail_without_it(caplog):
    """Gone after 0.1 s, back after 0.3 s; the other's update alone is below the quorum."""

    async def scenario():
        layout = Layout.of(START)
        hub = Hub("r", layout, HubOptions(reconnect_timeout=0.1))
        steady, cut = (FakeLearner(hub, name, layout) for name in ("l0", "l1"))
        strategy = FedAvg(Layout.of(START), seed=0)
        plan = Plan(
            run_id="r", rounds=1, seed=0, min_available=2, min_fit=2, min_evaluate=1,
            round_timeout=10, join_timeout=10,
        )  # fmt: skip
        whole = Training(State(parameters=START), plan, strategy)
        training = asyncio.create_task(whole.run(hub))
        for learner in (steady, cut):
            learner.connect()
        while cut.task is None:
            await asyncio.sleep(0)
        cut.cut()
        await asyncio.sleep(0.3)
        assert hub.present() == ["l0"]
        assert "round 1 fit: l1 is awaited until the deadline all the same" in caplog.text
        assert "(--round-timeout, 10 s)" in caplog.text
        assert "connection lost, not back within 0 s" in caplog.text
        cut.work()
        cut.connect()
        while not training.done():
            obedient([steady, cut])
            await asyncio.sleep(0)
        (record,) = training.result().history
        assert record.learners == ("l0", "l1")
        assert record.failures == ()
        assert cut.fits == 1
        await hub.close("done", final=True)
        for learner in (steady, cut):
            learner.cut()
            await learner.stream

    asyncio.run(asyncio.wait_for(scenario(), 10))


def test_what_a_learner_had_before_is_forgotten_with_its_next_task():
    """It is at round 2 when the aggregator, which has lost that round, goes back to round 1."""

    async def scenario():
        layout = Layout.of(START)
        before, hub = (Hub("r", layout, HubOptions()) for _ in range(2))
        learner = FakeLearner(before, "l0", layout)
        for now, rounds in ((before, (2,)), (hub, (1, 2))):
            learner.hub = now
            learner.connect()
            await now.gather(1, 5)
            for round in rounds:
                task = Task(stage="fit", run_id="r", round=round, version=round - 1, seed=0)
                stage = now.ask({"l0": task}, START, Deadline(timeout=5), lambda *_: None)
                while learner.task is None or learner.task.key != task.key:
                    await asyncio.sleep(0)
                if now is hub:
                    learner.work()
                    assert isinstance(await stage.next(), Update)
                    stage.close()
            learner.cut()
            await learner.stream
        assert learner.fits == 2

    asyncio.run(asyncio.wait_for(scenario(), 10))


def test_who_comes_late_is_told_the_time_that_is_left(monkeypatch):
    clock = SimpleNamespace(now=1000.0)
    monkeypatch.setattr(stage_, "time", SimpleNamespace(monotonic=lambda: clock.now))

    async def scenario():
        layout = Layout.of(START)
        hub = Hub("r", layout, HubOptions())
        told = []
        for _ in range(2):  # two processes, one after the other
            learner = FakeLearner(hub, "l0", layout)
            learner.connect()
            await hub.gather(1, 5)
            if not told:
                task = Task(stage="fit", run_id="r", round=1, version=0, seed=0, timeout=30)
                stage = hub.ask({"l0": task}, START, Deadline(timeout=30), lambda *_: None)
            while learner.task is None:
                await asyncio.sleep(0)
            told.append(learner.task.timeout)
            learner.cut()
            await learner.stream
            clock.now += 7
        stage.close()
        return told

    assert asyncio.run(asyncio.wait_for(scenario(), 10)) == [30, 23]


def test_an_aggregator_that_was_interrupted_cancels_nobodys_task():
    async def scenario(interrupted):
        layout = Layout.of(START)
        hub = Hub("r", layout, HubOptions())
        learner = FakeLearner(hub, "l0", layout)
        learner.connect()
        await hub.gather(1, 5)
        task = Task(stage="fit", run_id="r", round=1, version=0, seed=0)
        stage = hub.ask({"l0": task}, START, Deadline(timeout=5), lambda *_: None)
        while learner.task is None:
            await asyncio.sleep(0)
        if interrupted:
            hub.part()
        stage.close()
        await hub.close("interrupted", final=False)
        learner.cut()
        await learner.stream
        return learner.task is not None

    assert asyncio.run(scenario(interrupted=True))
    assert not asyncio.run(scenario(interrupted=False))


def test_a_share_of_the_time_ends_a_stage_once_its_quorum_has_answered():
    async def scenario(quorum):
        layout = Layout.of(START)
        hub = Hub("r", layout, HubOptions())
        learners = [FakeLearner(hub, f"l{n}", layout) for n in range(2)]
        for learner in learners:
            learner.connect()
        await hub.gather(2, 5)
        deadline = Deadline(timeout=5, quorum=quorum, share=0.05)
        task = Task(stage="fit", run_id="r", round=1, version=0, seed=0)
        stage = hub.ask(dict.fromkeys(["l0", "l1"], task), START, deadline, lambda *_: None)
        while not all(learner.task for learner in learners):
            await asyncio.sleep(0)
        learners[0].work()
        answers = [await stage.next()]
        asyncio.get_running_loop().call_later(0.3, learners[1].work)
        answers.append(await stage.next())
        stage.close()
        for learner in learners:
            learner.cut()
            await learner.stream
        return answers

    _, late = asyncio.run(asyncio.wait_for(scenario(quorum=1), 10))
    assert late.reason == "no answer within 0.05 s, this round's share of the root's deadline"
    _, awaited = asyncio.run(asyncio.wait_for(scenario(quorum=2), 10))
    assert awaited.learner == "l1"
    assert isinstance(awaited, Update)


def test_a_peer_that_goes_while_it_is_told_goodbye_leaves_no_cancelled_error():
    """gRPC then cancels the stream's task as it ends, which to gRPC is an error of ours."""

    async def play():
        hub = Hub("r", Layout.of(START), HubOptions())
        learner = FakeLearner(hub, "l0", Layout.of(START))
        told = asyncio.Event()

        async def write(frame):
            told.set()
            await asyncio.Event().wait()  # it reads no more

        learner.write = write
        learner.connect()
        await told.wait()
        learner.inbox.put_nowait(None)
        while hub.links.get("l0"):
            await asyncio.sleep(0)
        await asyncio.sleep(0)
        learner.stream.cancel()
        await asyncio.wait([learner.stream])
        return learner.stream.cancelled()

    assert not asyncio.run(play())
