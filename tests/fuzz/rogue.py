"""Clients that follow the protocols, but send wrong content in each message and state.

Nothing that they send is a valid update, so they must not change the global model.

python -m tests.fuzz.rogue ADDRESS STREAMS SEED GATE HONEST,HONEST: GATE grows a byte a stream.
"""

import asyncio
import io
import pickle
import random
import sys
from contextlib import suppress

import grpc
import numpy as np
from flwr.proto import transport_pb2 as flower

from flops_fl.errors import ProtocolError
from flops_fl.flower.values import METHOD as FLOWER_METHOD
from flops_fl.repo.contract import ManagedModel
from flops_fl.wire import flops_pb2 as pb
from flops_fl.wire.codec import decode, encode
from flops_fl.wire.messages import Grant, Hello, Order
from flops_fl.wire.transport import METHOD
from tests.conftest import NUMPY

TEXTS = [
    "", "x", "x" * 5_000, "\x1b[2J\x1b[31mround 9/9", "a\nround 2/2  accuracy 1.0", "../../etc",
    "é" * 50, "\u202efit", "{}" * 400,
]  # fmt: skip
INTEGERS = [0, -1, 1, 3, 2**40, 2**40 + 1, 2**62, 2**63 - 1, -(2**63)]
FLOATS = [0.0, -1.0, float("nan"), float("inf"), 1e308, -1e308, 1e300]
KINDS = [field.name for field in pb.Frame.DESCRIPTOR.fields]
AT_ONCE = 40
PATIENCE = 0.2  # seconds for an order to come


class Stream:
    """A bidirectional stream whose frames are read in the background."""

    def __init__(self, channel, method):
        self.call = channel.stream_stream(method)(timeout=10)
        self.inbox = asyncio.Queue()
        self.reader = asyncio.create_task(self.read())

    async def read(self):
        with suppress(grpc.aio.AioRpcError, asyncio.CancelledError):
            while (frame := await self.call.read()) is not grpc.aio.EOF:
                self.inbox.put_nowait(frame)

    async def write(self, frame):
        with suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError, asyncio.CancelledError):
            await self.call.write(frame)

    async def frame(self):
        """The next frame; None if none comes within `PATIENCE`."""
        with suppress(TimeoutError):
            return await asyncio.wait_for(self.inbox.get(), PATIENCE)

    async def leave(self, politely):
        if politely:
            with suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):
                await self.call.done_writing()
        self.call.cancel()
        self.reader.cancel()


class Rogue:
    """One client with one random generator.

    Args:
        layout: Of the true model.
        honest: Ids of learners that it may pretend to be.
    """

    def __init__(self, channel, random, layout, honest):
        self.channel, self.random, self.layout = channel, random, layout
        self.honest = honest
        self.task = None

    async def stream(self, number):
        """A stream of either kind."""
        await (self.flower() if self.random.random() < 0.3 else self.native(number))

    # -- our own protocol ----------------------------------------------------------------

    async def native(self, number):
        random = self.random
        name = random.choice([f"fuzz-{number}"] * 6 + [f"fuzz-{number % 7}", *self.honest])
        if random.random() < 0.1:
            name = random.choice([*TEXTS, "flower-1", "."])
        self.task = None
        stream = Stream(self.channel, METHOD)
        if random.random() < 0.9:
            fingerprint = self.layout.fingerprint if random.random() < 0.9 else random.choice(TEXTS)
            hello = Hello(learner=name, nonce=str(number), fingerprint=fingerprint)
            await stream.write(encode(hello))
        if random.random() < 0.6:
            await self.listen(stream)
        for _ in range(random.randrange(5)):
            await stream.write(self.frame())
            if random.random() < 0.3:
                await self.listen(stream)
        await stream.leave(random.random() < 0.5)

    async def listen(self, stream):
        """Read until an order or a grant has come, or nothing comes."""
        while (frame := await stream.frame()) is not None:
            with suppress(ProtocolError):
                message = decode(frame)
                if isinstance(message, Order):
                    self.task = message.task
                if isinstance(message, Order | Grant):
                    return

    def frame(self):
        """A frame: mostly a well-formed message, with some content out of the pools."""
        random = self.random
        if random.random() < 0.1:
            return random.choice([b"", b"\xff" * 40, random.randbytes(200), b"\x7a\x05hello"])
        frame = pb.Frame()
        kind = random.choice(["result"] * 6 + ["failure", "failure", "chunk", "chunk", *KINDS])
        body = getattr(frame, kind)
        body.SetInParent()
        for field in body.DESCRIPTOR.fields:
            if random.random() < 0.8:
                self.fill(body, field)
        return frame.SerializeToString()

    def fill(self, body, field):
        random = self.random
        key = self.task.key if self.task else "r/1/fit"
        if field.message_type is not None:
            target = getattr(body, field.name)
            for text in random.sample(TEXTS, 2):
                if field.name == "versions":
                    target[text[:100]] = text
                else:
                    target[text[:100]].number = random.choice(FLOATS)
            return
        if field.name == "key":
            value = random.choice([key, key, key, *TEXTS])
        elif field.name == "nbytes":
            value = random.choice([self.layout.nbytes, self.layout.nbytes, 0, 7, 2**39, 2**63])
        elif field.name in ("inline", "data"):
            # All ones is NaN: of the right size, and yet no update.
            value = b"\xff" * random.choice([0, 7, 300, 700, self.layout.nbytes])
        elif field.type == field.TYPE_STRING:
            value = random.choice(TEXTS)
        elif field.type == field.TYPE_BOOL:
            value = random.random() < 0.5
        elif field.type == field.TYPE_DOUBLE:
            value = random.choice(FLOATS)
        else:
            value = random.choice(INTEGERS)
        with suppress(ValueError):  # beyond the field's own range
            if field.name == "sizes":
                body.sizes.extend([value, value])
            else:
                setattr(body, field.name, value)

    # -- Flower's ------------------------------------------------------------------------

    async def flower(self):
        stream = Stream(self.channel, FLOWER_METHOD)
        if self.random.random() < 0.8:  # it is asked for its properties before it is let in
            await stream.frame()
            res = flower.ClientMessage.GetPropertiesRes(status=flower.Status())
            answer = flower.ClientMessage(get_properties_res=res)
            await stream.write(answer.SerializeToString())
        for _ in range(self.random.randrange(3)):
            await stream.frame()
            await stream.write(self.answer())
        await stream.leave(self.random.random() < 0.5)

    def answer(self):
        random = self.random
        if random.random() < 0.1:
            return random.choice([b"", b"\xff" * 40, random.randbytes(200)])
        codes = [flower.Code.OK, flower.Code.OK, flower.Code.FIT_NOT_IMPLEMENTED]
        status = flower.Status(code=random.choice(codes), message=random.choice(TEXTS))
        metrics = {"accuracy": flower.Scalar(double=random.choice(FLOATS))}
        if random.random() < 0.3:
            res = flower.ClientMessage.EvaluateRes(
                status=status, loss=random.choice(FLOATS),
                num_examples=random.choice(INTEGERS), metrics=metrics,
            )  # fmt: skip
            return flower.ClientMessage(evaluate_res=res).SerializeToString()
        if random.random() < 0.2:
            other = flower.ClientMessage.DisconnectRes(reason=flower.Reason.ACK)
            return flower.ClientMessage(disconnect_res=other).SerializeToString()
        parameters = flower.Parameters(tensors=self.tensors(), tensor_type="numpy.ndarray")
        res = flower.ClientMessage.FitRes(
            status=status, parameters=parameters, num_examples=random.choice(INTEGERS),
            metrics=metrics,
        )  # fmt: skip
        return flower.ClientMessage(fit_res=res).SerializeToString()

    def tensors(self):
        random = self.random
        if random.random() < 0.3:
            return [pickle.dumps([1, 2]), b"", random.randbytes(50)]
        shapes = [spec.shape for spec in self.layout.tensors]
        if random.random() < 0.3:
            shapes = random.choice([shapes[:1], [*shapes, (2,)], [(3, 4)] * len(shapes)])
        out = []
        for shape in shapes:
            file = io.BytesIO()
            np.save(file, np.full(shape, np.nan, random.choice(["<f4", ">f8", "<f2"])))
            out.append(file.getvalue())
        return out


async def main(address, streams, seed, gate, honest):
    """Open so many streams, a few at a time."""
    layout = ManagedModel(NUMPY).layout
    numbers = iter(range(streams))

    async def work(index):
        async with grpc.aio.insecure_channel(address) as channel:
            rogue = Rogue(channel, random.Random(f"{seed}/{index}"), layout, honest)
            for number in numbers:
                await rogue.stream(number)
                with open(gate, "ab") as file:
                    file.write(b".")

    await asyncio.gather(*(work(index) for index in range(AT_ONCE)))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2]), *sys.argv[3:5], sys.argv[5].split(",")))
