"""A learner without a network: it answers a hub as told, one message at a time."""

import asyncio

import numpy as np

from flops_fl.types import Evaluation, Update
from flops_fl.wire.chunks import Assembler, Chunks
from flops_fl.wire.codec import decode, encode
from flops_fl.wire.line.answers import as_message
from flops_fl.wire.messages import (
    PROTOCOL,
    Cancel,
    Chunk,
    Goodbye,
    Grant,
    Hello,
    Order,
    Ping,
    Refusal,
)


class FakeLearner:
    """The other end of a stream, in this process; it works when the test says so."""

    def __init__(self, hub, name, layout):
        self.hub, self.name, self.layout = hub, name, layout
        self.step = float(name[1:]) + 1
        self.task = self.answer = self.held = self.download = self.stream = None
        self.fits = self.streams = 0
        self.over = False

    @property
    def connected(self):
        return self.stream is not None and not self.stream.done()

    def connect(self):
        self.inbox = asyncio.Queue()
        run, version = self.held[:2] if self.held else ("", -1)
        self.send(
            Hello(
                protocol=PROTOCOL, learner=self.name, nonce=self.name, commit="", versions={},
                fingerprint=self.layout.fingerprint, task=self.task.key if self.task else "",
                run_id=run, version=version,
            )
        )  # fmt: skip
        self.download = None
        self.stream = asyncio.create_task(self.hub.join(self.requests(self.inbox), self))

    async def requests(self, inbox):
        while (frame := await inbox.get()) is not None:
            yield frame

    def peer(self):
        return "ipv4:127.0.0.1:1"

    def auth_context(self):
        return {}

    async def write(self, frame):
        message = decode(frame)
        if isinstance(message, Order):
            self.take(message)
        elif isinstance(message, Chunk):
            self.fill(message.offset, message.data)
        elif isinstance(message, Grant):
            self.upload()
        elif isinstance(message, Cancel):
            self.task = self.answer = None
        elif isinstance(message, Ping):
            self.send(Ping(answer=True))
        elif isinstance(message, Goodbye):
            self.over = message.final
        assert not isinstance(message, Refusal), message.reason

    def upload(self):
        for frame, _ in Chunks(self.task.round, self.answer.parameters):
            self.inbox.put_nowait(frame)

    def send(self, message):
        self.inbox.put_nowait(encode(message))

    def take(self, order):
        if self.task and self.task.key == order.task.key:
            if self.answer:
                self.send(as_message(self.task, self.answer))
        elif order.nbytes is not None:
            self.task = self.answer = None
            assert order.nbytes == self.layout.nbytes
            self.download = (order, Assembler(self.layout.empty()))
            if not order.chunks_follow:
                self.fill(0, order.inline)
        else:
            assert self.held[:2] == (order.task.run_id, order.task.version)
            self.begin(order.task)

    def fill(self, offset, data):
        order, assembler = self.download
        assembler.add(offset, data)
        if assembler.complete:
            self.held = (order.task.run_id, order.task.version, assembler.arrays)
            self.begin(order.task)

    def begin(self, task):
        self.task, self.answer = task, None

    def work(self):
        """Answer the open task, connected or not."""
        if self.task is None or self.answer is not None:
            return
        if self.task.stage == "fit":
            self.fits += 1
            first, *rest = self.held[2]
            arrays = [first + np.float32(self.step), *rest]
            self.answer = Update(learner=self.name, parameters=arrays, examples=int(self.step))
        else:
            self.answer = Evaluation(learner=self.name, loss=1.0, examples=2)
        if self.connected:
            self.send(as_message(self.task, self.answer))

    def cut(self):
        if self.connected:
            self.inbox.put_nowait(None)
