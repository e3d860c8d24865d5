"""Hostile clients try to exhaust a real aggregator's memory."""

import asyncio
import json
from contextlib import suppress

import grpc
import pytest
from flwr.proto import transport_pb2 as flower
from grpc_health.v1 import health_pb2, health_pb2_grpc

from flops_fl.flower.values import METHOD as FLOWER_METHOD
from flops_fl.repo.contract import ManagedModel
from flops_fl.wire.codec import decode, encode
from flops_fl.wire.hub.server import WATCHERS
from flops_fl.wire.messages import Hello, Order, Result
from flops_fl.wire.transport import METHOD
from tests.conftest import NUMPY, wait_for_port

BIG = """
import numpy as np
from model_manager_plain import ModelManager as Plain

class ModelManager(Plain):
    def __init__(self):
        super().__init__()
        self.more = np.zeros(5_000_000, np.float32)

    def get_model_parameters(self):
        return [*super().get_model_parameters(), self.more]

    def set_model_parameters(self, parameters):
        *own, self.more = parameters
        super().set_model_parameters(own)
"""


@pytest.mark.parametrize("method", [METHOD, pytest.param(FLOWER_METHOD, marks=pytest.mark.slow)])
def test_a_message_that_swells_is_refused_before_it_does(processes, digits, method, monkeypatch):
    """2 MB of gzip would be 2 GB of zeros; nobody has even said who it is."""

    async def send():
        options = [("grpc.max_send_message_length", -1)]
        async with grpc.aio.insecure_channel(
            processes.address, options, compression=grpc.Compression.Gzip
        ) as channel:
            call = channel.stream_stream(method)()
            with suppress(grpc.aio.AioRpcError):
                await call.write(bytes(500_000_000))
                while await call.read() is not grpc.aio.EOF:
                    pass
            assert await call.code() is not grpc.StatusCode.OK

    monkeypatch.delenv("GRPC_VERBOSITY", raising=False)  # flwr sets it
    aggregator = processes.aggregator(NUMPY, "--rounds", 1, "--min-clients", 2)
    wait_for_port(processes.address)
    asyncio.run(send())
    for index in range(2):
        processes.learner(NUMPY, digits / f"part-{index}", f"l{index}")
    result = processes.result(aggregator)
    assert result["rounds"][0]["learners"] == ["l0", "l1"]
    assert result["peak_memory_bytes"] < 400e6
    assert "call.cc" not in processes.stderr(aggregator)  # gRPC's log: a line for each such stream


@pytest.mark.slow
@pytest.mark.parametrize("method", [METHOD, pytest.param(FLOWER_METHOD, marks=pytest.mark.slow)])
def test_clients_that_never_read_cost_one_model_not_one_a_round(
    processes, digits, tmp_path, method
):
    """20 MB and twenty rounds for three of them: what was queued for a stage ends with it."""
    repo = tmp_path / "repo"
    repo.mkdir()
    for name, target in [("model_manager", "model_manager_plain"), ("data_manager",) * 2]:
        (repo / f"{target}.py").write_text((NUMPY / f"{name}.py").read_text())
    (repo / "model_manager.py").write_text(BIG)
    peaks = {}
    for count in (0, 3):
        group = type(processes)(tmp_path / str(count))
        group.folder.mkdir()
        options = ["--rounds", 20, "--min-clients", 1, "--grace", 0.2]
        options += ["--min-available-clients", 1 + count]
        aggregator = group.aggregator(repo, *options)
        try:
            wait_for_port(group.address)
            learner = group.learner(repo, digits / "part-0", "zz-reads")
            fingerprint = ManagedModel(repo).layout.fingerprint
            result = asyncio.run(_deaf(group.address, method, count, fingerprint, aggregator))
            assert result["status"] == "completed"
            group.finish(learner)
        finally:
            group.stop()
        peaks[count] = result["peak_memory_bytes"]
    assert peaks[3] - peaks[0] < 5 * 20e6 * (2 if method == FLOWER_METHOD else 1)


async def _deaf(address, method, count, fingerprint, aggregator):
    """Clients that join and read nothing, until the aggregator has ended; its result."""
    # A window of one frame: what it does not read stays with the sender.
    async with grpc.aio.insecure_channel(
        address, [("grpc.http2.lookahead_bytes", 1 << 16)]
    ) as channel:
        calls = []
        for index in range(count):
            call = channel.stream_stream(method)()
            if method == METHOD:
                name = f"deaf-{index}"
                await call.write(encode(Hello(learner=name, nonce=name, fingerprint=fingerprint)))
            else:  # the answer to the question whether it is there
                res = flower.ClientMessage.GetPropertiesRes(status=flower.Status())
                answer = flower.ClientMessage(get_properties_res=res)
                await call.write(answer.SerializeToString())
            calls.append(call)
        out, _ = await asyncio.to_thread(aggregator.communicate, timeout=80)
        assert aggregator.returncode == 0
        return json.loads(out)


@pytest.mark.slow
def test_what_strangers_do_is_a_line_for_each_kind_and_address(processes, digits):
    """They may fill neither the log nor, by that, the disk."""

    async def call(channel, frame):
        stream = channel.stream_stream(METHOD)()
        with suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):
            await stream.write(frame)
            while await stream.read() is not grpc.aio.EOF:
                pass

    async def come(count):
        async with grpc.aio.insecure_channel(processes.address) as channel:
            for index in range(count):
                name = f"stranger-{index}"
                await call(channel, encode(Hello(learner=name, nonce=name, fingerprint="none")))
                await call(channel, b"no frame")

    aggregator = processes.aggregator(NUMPY, "--rounds", 1, "--min-clients", 2)
    wait_for_port(processes.address)
    asyncio.run(come(60))
    for index in range(2):
        processes.learner(NUMPY, digits / f"part-{index}", f"l{index}")
    processes.result(aggregator)
    lines = [line for line in processes.stderr(aggregator).splitlines() if "127.0.0.1" in line]
    more = [line for line in lines if "... and 59 more from 127.0.0.1 in the last 30 s" in line]
    said = [" refused: the model's tensors differ", " broke the protocol: not a frame of"]
    assert [sum(text in line for line in lines) for text in said] == [1, 1]
    assert len(more) == 2
    assert " (refused: the model's tensors differ" in more[0]
    assert more[0].endswith(", among them stranger-1, stranger-2, stranger-3")


@pytest.mark.slow
def test_the_record_of_a_learner_that_broke_the_protocol_says_so(processes, digits):
    """And not only that no answer came, which the end of its stream explains."""

    async def answer_another_task():
        async with grpc.aio.insecure_channel(processes.address) as channel:
            stream = channel.stream_stream(METHOD)()
            fingerprint = ManagedModel(NUMPY).layout.fingerprint
            await stream.write(encode(Hello(learner="odd", nonce="1", fingerprint=fingerprint)))
            with suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):
                while (frame := await stream.read()) is not grpc.aio.EOF:
                    if isinstance(decode(frame), Order):
                        await stream.write(encode(Result(key="r/9/fit", examples=1)))

    options = ["--min-clients", 2, "--min-available-clients", 3, "--grace", 0.5]
    aggregator = processes.aggregator(NUMPY, "--rounds", 1, *options)
    wait_for_port(processes.address)
    for index in range(2):
        processes.learner(NUMPY, digits / f"part-{index}", f"l{index}")
    asyncio.run(answer_another_task())
    failure, *_ = processes.result(aggregator)["rounds"][0]["failures"]
    assert failure["learner"] == "odd"
    assert failure["reason"] == (
        "it broke the protocol: an answer to the task 'r/9/fit', which is not open; "
        "no answer within 0.5 s after 2 others' (--grace)"
    )


@pytest.mark.slow
def test_the_health_service_keeps_nothing_of_what_strangers_ask_it(processes, digits):
    """gRPC's own keeps each request that watches: 200 of them took 1.2 GB."""

    async def watch(name, count):
        async with grpc.aio.insecure_channel(processes.address) as channel:
            stub = health_pb2_grpc.HealthStub(channel)
            codes, calls = [], []
            for index in range(count):
                asked = health_pb2.HealthCheckRequest(service=f"{name}{index}" if name else "")
                calls.append(stub.Watch(asked))
                with suppress(grpc.aio.AioRpcError):
                    assert (await calls[-1].read()).status == health_pb2.HealthCheckResponse.SERVING
                    continue
                codes.append(await calls[-1].code())
            return codes

    aggregator = processes.aggregator(NUMPY, "--rounds", 1, "--min-clients", 2)
    wait_for_port(processes.address)
    assert asyncio.run(watch("x" * 1_900_000, 60)) == [grpc.StatusCode.NOT_FOUND] * 60
    refused = asyncio.run(watch("", WATCHERS + 3))
    assert refused == [grpc.StatusCode.RESOURCE_EXHAUSTED] * 3
    for index in range(2):
        processes.learner(NUMPY, digits / f"part-{index}", f"l{index}")
    assert processes.result(aggregator)["peak_memory_bytes"] < 400e6
