"""The sending half of a stream."""

import asyncio
import weakref

import numpy as np

from flops_fl.types import Task
from flops_fl.wire.chunks import CHUNK_BYTES, Chunks
from flops_fl.wire.messages import Hello, Order, Welcome
from flops_fl.wire.outbox import Outbox
from flops_fl.wire.session import Conversation, Side


def test_a_model_that_was_sent_is_not_kept_until_the_next_message():
    """Of a sample of learners a round, each would keep another version of the model."""

    async def scenario():
        conversation = Conversation()
        outbox = Outbox(Side.AGGREGATOR, conversation)
        conversation.step(Side.LEARNER, Hello(learner="a", nonce="n", fingerprint="f"))
        outbox.send(Welcome(learner="a", run_id="r"))
        model = Chunks(0, [np.zeros(CHUNK_BYTES, np.float32)])
        seen, left = weakref.ref(model), asyncio.Event()
        frames = []

        async def write(frame):
            frames.append(frame)
            if len(frames) == 2 + 4:
                left.set()

        task = Task(stage="fit", run_id="r", round=1, version=0, seed=0)
        outbox.send_order(Order(task=task, nbytes=model.nbytes), model)
        del model
        writer = asyncio.create_task(outbox.run(write))
        await left.wait()
        await asyncio.sleep(0)  # it waits for the next message now
        assert seen() is None
        outbox.close()
        await writer

    asyncio.run(scenario())
