"""The lower bound: gRPC alone sends the same bytes on streams that are already open.

python -m benchmarks.limits ROLE SPEC

As in flops-fl, each end has one event loop, and messages have at most 1 MB. A round has two
exchanges, since a learner is asked twice: for a fit and its update, then for the new model and its
evaluation. Streams are opened, and one round is played, before anything is timed.
"""

from __future__ import annotations

import asyncio
import json
import resource
import sys
import time
from typing import Any

import grpc

from benchmarks.harness import finish, free_port, start, together, wait_for

MESSAGE = 1 << 20
HEADER = 100  # bytes of an order, or an answer, without parameters
UNLIMITED = [("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1)]
METHOD = "/bench/Move"


def run(learners: int, nbytes: int, rounds: int, processes: int | None = None) -> dict[str, Any]:
    """Run it with the clients in `processes` (default: one each); return the server's figures."""
    spec = {"learners": learners, "nbytes": nbytes, "rounds": rounds + 1, "port": free_port()}
    running = [start("benchmarks.limits", "server", json.dumps(spec))]
    count = processes or learners
    with together(running):
        wait_for(spec["port"])
        for index in range(count):
            own = {**spec, "streams": len(range(index, learners, count))}
            running.append(start("benchmarks.limits", "clients", json.dumps(own)))
        figures: dict[str, Any] = finish(running[0])
        return figures


def frames(nbytes: int) -> list[bytes]:
    """A model, split into messages."""
    return [bytes(min(MESSAGE, nbytes - at)) for at in range(0, nbytes, MESSAGE)]


async def _serve(spec: dict[str, Any]) -> dict[str, Any]:
    model, learners = frames(spec["nbytes"]), spec["learners"]
    streams: list[Any] = []
    everyone, over = asyncio.Event(), asyncio.Event()

    async def join(requests: Any, context: Any) -> None:
        streams.append((requests, context))
        if len(streams) == learners:
            everyone.set()
        await over.wait()

    async def exchange(requests: Any, context: Any, down: list[bytes], up: int) -> None:
        for frame in down:
            await context.write(frame)
        while up > 0:
            up -= len(await anext(requests))

    handler = grpc.stream_stream_rpc_method_handler(join)
    server = grpc.aio.server(options=UNLIMITED)
    handlers = grpc.method_handlers_generic_handler("bench", {"Move": handler})
    server.add_generic_rpc_handlers((handlers,))
    server.add_insecure_port(f"127.0.0.1:{spec['port']}")
    await server.start()
    await everyone.wait()
    times = []
    header = [bytes(HEADER)]
    for _ in range(spec["rounds"]):
        begin = time.monotonic()
        for down, up in ((header, spec["nbytes"]), (model, HEADER)):
            await asyncio.gather(*(exchange(*stream, down, up) for stream in streams))
        times.append(time.monotonic() - begin)
    over.set()
    await server.stop(1)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {"rounds": times[1:], "peak": peak}


async def _clients(spec: dict[str, Any]) -> None:
    model, nbytes = frames(spec["nbytes"]), spec["nbytes"]

    async def converse(channel: grpc.aio.Channel) -> None:
        call = channel.stream_stream(METHOD)()
        try:
            for _ in range(spec["rounds"]):
                await call.read()
                for frame in model:
                    await call.write(frame)
                seen = 0
                while seen < nbytes:
                    seen += len(await call.read())
                await call.write(bytes(HEADER))
            await call.read()  # returns when the server ends the stream
        except grpc.aio.AioRpcError:
            pass  # the server has ended the stream

    async with grpc.aio.insecure_channel(f"127.0.0.1:{spec['port']}", UNLIMITED) as channel:
        await asyncio.gather(*(converse(channel) for _ in range(spec["streams"])))


def main() -> None:
    role, spec = sys.argv[1], json.loads(sys.argv[2])
    if role == "server":
        sys.stdout.write(json.dumps(asyncio.run(_serve(spec))) + "\n")
    else:
        asyncio.run(_clients(spec))


if __name__ == "__main__":
    main()
