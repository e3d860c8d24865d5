"""Clients that say Hello, and then large messages that nobody has asked for, as fast as they can.

python -m tests.fuzz.flood ADDRESS STREAMS SEED GATE HONEST,HONEST: as `tests.fuzz.rogue`.
"""

import asyncio
import sys
from contextlib import suppress

import grpc

from flops_fl.repo.contract import ManagedModel
from flops_fl.wire import flops_pb2 as pb
from flops_fl.wire.codec import encode
from flops_fl.wire.messages import Hello
from flops_fl.wire.transport import METHOD
from tests.conftest import NUMPY

AT_ONCE = 16
SIZE = 1_900_000  # bytes; the largest message has 2 MiB
KINDS = ["result", "failure", "chunk", "ping", "hello", "offer"]


def large(kind):
    """A message of `SIZE` bytes."""
    frame = pb.Frame()
    if kind == "failure":
        frame.failure.key, frame.failure.reason = "r/1/fit", "x" * SIZE
    elif kind == "chunk":
        frame.chunk.data = bytes(SIZE)
    elif kind == "ping":
        frame.ping.answer = True
    elif kind == "hello":
        frame.hello.learner = "x" * SIZE
    else:
        frame.result.key, frame.result.nbytes = "r/1/fit", SIZE
        frame.result.inline = bytes(SIZE) if kind == "result" else b""
    # What is too short is filled up by a field that this version does not know.
    if kind in ("ping", "offer"):
        unknown = pb.Frame()
        unknown.chunk.data = bytes(SIZE)
        body = unknown.chunk.SerializeToString().replace(b"\x1a", b"\xfa\x07", 1)
        getattr(frame, "ping" if kind == "ping" else "result").MergeFromString(body)
    return frame.SerializeToString()


async def main(address, streams, gate):
    """Open so many streams, each for as long as the aggregator lets it flood."""
    fingerprint = ManagedModel(NUMPY).layout.fingerprint
    frames = [large(kind) for kind in KINDS]
    numbers = iter(range(streams))

    async def work(index):
        name = f"flood-{index}"
        hello = encode(Hello(learner=name, nonce=name, fingerprint=fingerprint))
        # Each has a connection of its own, as it would have on a machine of its own.
        options = [("flops.index", index)]
        async with grpc.aio.insecure_channel(address, options) as channel:
            for number in numbers:
                call = channel.stream_stream(METHOD)()
                with suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):
                    await call.write(hello)
                    for _ in range(30):
                        await call.write(frames[number % len(frames)])
                call.cancel()
                with open(gate, "ab") as file:
                    file.write(b".")

    await asyncio.gather(*(work(index) for index in range(AT_ONCE)))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2]), sys.argv[4]))
