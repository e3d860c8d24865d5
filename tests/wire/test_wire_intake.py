"""The answers of a stage: in id order, each once, within the memory budget."""

import asyncio
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flops_fl.dtypes import OPAQUE
from flops_fl.errors import ProtocolError
from flops_fl.types import Layout, LearnerFailure, Task, Update
from flops_fl.wire.chunks import Chunks
from flops_fl.wire.codec import decode
from flops_fl.wire.hub.entries import Room
from flops_fl.wire.hub.intake import Intake
from flops_fl.wire.hub.precedence import ById
from flops_fl.wire.messages import Chunk, Result

LAYOUT = Layout.of([np.zeros((2, 3), "<f4"), np.array(0, "<i8")])
OPAQUE_LAYOUT = Layout.of([np.zeros(0, OPAQUE), np.zeros(0, OPAQUE)])
LARGEST = 40


def update_of(name):
    return [np.full((2, 3), float(name[1:]), "<f4"), np.array(7, "<i8")]


def opaque_update_of(name):
    number = int(name[1:])
    sizes = (number * 31) % LARGEST, number % 2
    return [np.full(size, number, np.uint8).view(OPAQUE) for size in sizes]


def task(stage="fit"):
    return Task(stage=stage, run_id="r", round=1, version=0, seed=0)


class Learners:
    """Learners that upload what they are granted, when the test says so."""

    def __init__(self, names, budget, patience=0.0, spool=None, order=ById, opaque=False):
        self.update_of = opaque_update_of if opaque else update_of
        self.granted = []
        self.answered = []
        self.held = 0
        self.intake = Intake(
            OPAQUE_LAYOUT if opaque else LAYOUT,
            Room(budget=budget, patience=patience, spool=spool, opaque_update=LARGEST),
            order(),
            grant=lambda name, _: self.granted.append(name),
            on_answer=lambda name, failure: self.answered.append((name, failure)),
        )
        self.intake.ask({name: task() for name in names})

    def offer(self, name):
        model = Chunks(1, self.update_of(name))
        result = Result(key=task().key, examples=3, nbytes=model.nbytes, sizes=model.sizes)
        self.intake.offer(name, result)

    def upload(self, name):
        self.granted.remove(name)
        for frame, _ in Chunks(1, self.update_of(name)):
            piece = decode(frame)
            self.intake.chunk(name, Chunk(version=1, offset=piece.offset, data=piece.data))


def run(work):
    return asyncio.run(work)


async def answers_of(intake):
    """All answers, as a consumer takes them: one dropped before the next."""
    while (answer := await intake.next()) is not None:
        yield answer
        del answer


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.sampled_from(["offer", "upload", "fail", "cut"]), max_size=60),
    st.integers(1, 6),
    st.integers(0, 3),
    st.randoms(use_true_random=False),
    st.booleans(),
)
def test_any_interleaving_gives_one_answer_each_in_id_order(actions, count, models, random, opaque):
    async def scenario():
        names = [f"l{n}" for n in range(count)]
        learners = Learners(names, budget=models * LAYOUT.nbytes, opaque=opaque)
        answers = []

        async def consume():
            async for answer in answers_of(learners.intake):
                if isinstance(answer, Update):  # the arrays are lent
                    own = [array.copy() for array in answer.parameters]
                    answers.append(replace(answer, parameters=own))
                else:
                    answers.append(answer)
                await asyncio.sleep(0)

        consumer = asyncio.create_task(consume())
        working = set(names)

        def act(action):
            open_ = learners.intake.open()
            if action == "offer" and working:
                name = random.choice(sorted(working))
                working.discard(name)
                learners.offer(name)
            elif action == "upload" and learners.granted:
                learners.upload(random.choice(learners.granted))
            elif action == "fail" and open_:
                name = random.choice(open_)
                working.discard(name)
                if name in learners.granted:
                    learners.granted.remove(name)
                learners.intake.fail(name, "fit", "broken")
            elif action == "cut" and open_:
                name = random.choice(open_)
                if name in learners.granted:
                    learners.granted.remove(name)
                learners.intake.interrupt(name)
                working.add(name)

        for action in actions:
            act(action)
            # One upload in memory beyond the budget is allowed: the next in order.
            held = sum(e.charge for e in learners.intake._entries.values())
            assert held == learners.intake._held
            assert held <= max(models, 1) * LAYOUT.nbytes + LARGEST
            if random.random() < 0.5:
                await asyncio.sleep(0)
        for _ in range(4 * count):  # whoever is left does its work now: no deadlock
            act("offer")
            await asyncio.sleep(0)
            act("upload")
            await asyncio.sleep(0)
        await asyncio.wait_for(consumer, 1)
        assert [a.learner for a in answers] == names
        for answer in answers:
            if isinstance(answer, Update):
                expected = learners.update_of(answer.learner)
                for got, sent in zip(answer.parameters, expected, strict=True):
                    assert (got.dtype, got.shape) == (sent.dtype, sent.shape)
                    assert got.tobytes() == sent.tobytes()
        assert sorted(n for n, _ in learners.answered) == names
        assert learners.intake._held == 0

    run(scenario())


def test_a_late_learner_sends_the_others_to_disk_not_to_wait():
    async def scenario():
        learners = Learners(["l1", "l2", "l3"], budget=LAYOUT.nbytes)
        learners.offer("l2")
        learners.offer("l3")
        assert learners.granted == ["l2"]  # within the budget
        learners.upload("l2")
        assert learners.granted == ["l3"]  # l1 is late, nothing moves: to disk
        learners.upload("l3")
        learners.offer("l1")
        learners.upload("l1")
        got = [a.parameters[0][0, 0] async for a in answers_of(learners.intake)]
        assert got == [1, 2, 3]

    run(scenario())


def test_a_learner_that_is_hardly_late_is_waited_for_without_the_disk():
    async def scenario():
        learners = Learners(["l1", "l2"], budget=0, patience=0.05)
        learners.offer("l2")
        assert learners.granted == []
        learners.offer("l1")
        assert learners.granted == ["l1"]
        learners = Learners(["l1", "l2"], budget=0, patience=0.05)
        learners.offer("l2")
        await asyncio.sleep(0.2)
        assert learners.granted == ["l2"]

    run(scenario())


def test_while_an_update_is_folded_the_next_waits_for_its_memory():
    async def scenario():
        learners = Learners(["l1", "l2", "l3"], budget=LAYOUT.nbytes)
        for name in ("l1", "l2", "l3"):
            learners.offer(name)
        assert learners.granted == ["l1"]
        learners.upload("l1")
        answers = learners.intake
        first = await answers.next()  # now it is being folded
        assert learners.granted == []  # neither a second one in memory, nor to disk
        arrays = first.parameters
        await asyncio.gather(advance(answers), upload_soon(learners, "l2"))
        entry = learners.intake._entries["l2"]
        assert entry.answer is None  # handed out
        assert arrays[0][0, 0] == 2  # in the first one's place

    async def advance(answers):
        await answers.next()

    async def upload_soon(learners, name):
        while name not in learners.granted:
            await asyncio.sleep(0)
        learners.upload(name)

    run(scenario())


def test_another_layout_is_refused_before_a_byte_of_it_is_sent():
    async def scenario():
        learners = Learners(["l1"], budget=0, opaque=True)
        large = Result(key="", examples=1, nbytes=53, sizes=(3, 50))
        assert "53 bytes, expected at most 40" in learners.intake.offer("l1", large)
        assert learners.granted == []
        for opaque, nbytes, sizes, said in (
            (False, 28, (), "28 bytes, expected 32"),
            (False, 32, (16, 16), "2 sizes of items, expected none: it has tensors"),
            (True, 3, (3,), "1 items of 3 bytes in 3, expected 2"),
            (True, 0, (), "0 items of 0 bytes in 0, expected 2"),
            (True, 8, (3, 3), "2 items of 6 bytes in 8"),
        ):
            learners = Learners(["l1"], budget=0, opaque=opaque)
            result = Result(key="", examples=1, nbytes=nbytes, sizes=sizes)
            with pytest.raises(ProtocolError, match=said):  # no learner of ours sends this
                learners.intake.offer("l1", result)
            assert learners.granted == []
        (answer,) = [a async for a in answers_of(learners.intake)]
        assert isinstance(answer, LearnerFailure)

    run(scenario())
