"""Updates and models that lie in files while nobody needs them."""

import asyncio

import numpy as np

from flops_fl.process.spool import release_pages, spool, spooled
from flops_fl.types import Layout
from flops_fl.wire.chunks import Chunks
from flops_fl.wire.codec import decode
from flops_fl.wire.hub.entries import Room
from flops_fl.wire.hub.intake import Intake
from flops_fl.wire.hub.precedence import ById
from flops_fl.wire.messages import Chunk, Result
from tests.wire.test_wire_intake import LAYOUT, Learners, answers_of, run, task


def test_spooled_arrays_are_plain_arrays_without_a_file(tmp_path):
    arrays = spooled(LAYOUT, tmp_path)
    arrays[0][:] = 5
    assert Layout.of(arrays) == LAYOUT
    assert arrays[0].sum() == 30
    assert list(tmp_path.iterdir()) == []


def test_where_there_is_no_room_for_a_spool_file_early_updates_wait(tmp_path, caplog):
    async def scenario():
        names = ["l1", "l2", "l3"]
        learners = Learners(names, budget=0, spool=tmp_path / "gone")
        for name in ("l3", "l2"):  # ahead of the first in order, which is late
            learners.offer(name)
        assert learners.granted == []
        assert "they wait for the late ones" in caplog.text
        learners.offer("l1")
        sums = []

        async def consume():
            async for answer in answers_of(learners.intake):
                sums.append((answer.learner, float(answer.parameters[0].sum())))
                del answer

        consumer = asyncio.create_task(consume())
        while not consumer.done():
            for name in list(learners.granted):
                learners.upload(name)
            await asyncio.sleep(0)
        assert sums == [("l1", 6.0), ("l2", 12.0), ("l3", 18.0)]

    run(asyncio.wait_for(scenario(), 10))


def _resident(kind):
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith(kind)) * 1024


def test_a_spooled_model_leaves_this_process_and_keeps_its_values(tmp_path):
    model = [np.arange(10_000_000, dtype="<f4"), np.array(7), np.zeros((0, 3), "<f8")]
    before = _resident("RssFile")
    arrays = spool(model, tmp_path)
    assert _resident("RssFile") - before < 10_000_000
    frames = list(Chunks(1, arrays))  # as it is sent
    assert len(frames) == 39
    assert all((ours == theirs).all() for ours, theirs in zip(arrays, model, strict=True))
    assert _resident("RssFile") - before > 30_000_000
    release_pages(arrays)
    assert _resident("RssFile") - before < 10_000_000
    assert arrays[0][-1] == 9_999_999
    arrays[0][5] = 1
    release_pages(arrays)
    assert arrays[0][5] == 1
    assert list(tmp_path.iterdir()) == []


def test_an_early_update_in_a_file_takes_no_memory_until_it_is_folded(tmp_path):
    layout = Layout.of([np.zeros(10_000_000, "<f4")])
    early = [np.arange(10_000_000, dtype="<f4")]

    async def scenario():
        room = Room(budget=0, patience=0.0, spool=tmp_path)
        intake = Intake(layout, room, ById(), grant=lambda *_: None, on_answer=lambda *_: None)
        intake.ask({"l1": task(), "l2": task()})
        before = _resident("RssFile")
        intake.offer("l2", Result(key=task().key, examples=3, nbytes=layout.nbytes))
        for frame, _ in Chunks(1, early):
            piece = decode(frame)
            intake.chunk("l2", Chunk(version=1, offset=piece.offset, data=piece.data))
        assert _resident("RssFile") - before < 10_000_000
        intake.fail("l1", "fit", "broken")
        answers = [answer async for answer in answers_of(intake)]
        assert (answers[1].parameters[0] == early[0]).all()

    run(scenario())
