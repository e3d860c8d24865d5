"""Flower's clients connect to the same port as ours, under the same rules."""

import asyncio

import grpc
import pytest

from flops_fl.flower.values import METHOD as FLOWER_METHOD
from tests.conftest import wait_for_port, without_colour
from tests.peers.test_peers_flower import NUMPY, stock


@pytest.mark.slow
def test_a_number_of_flowers_is_nobodys_name_and_streams_that_have_gone_are_not_present(
    processes, digits
):
    async def come_and_go(count):
        async with grpc.aio.insecure_channel(processes.address) as channel:
            for _ in range(count):
                call = channel.stream_stream(FLOWER_METHOD)()
                await call.wait_for_connection()
                call.cancel()

    aggregator = processes.aggregator(NUMPY, "--rounds", 2, "--min-clients", 2)
    wait_for_port(processes.address)
    asyncio.run(come_and_go(100))
    impostor = processes.learner(NUMPY, digits / "part-1", "flower-101")
    processes.finish(impostor, code=5)
    assert "is reserved for Flower clients without a name" in processes.stderr(impostor)
    client = stock(processes, "works")
    processes.learner(NUMPY, digits / "part-0", "native")
    result = processes.result(aggregator)
    assert client.wait(20) == 0
    for record in result["rounds"]:
        assert record["learners"] == ["flower-101", "native"]
        assert record["failures"] == []
    assert "learner flower-101 at 127.0.0.1:" in without_colour(processes.stderr(aggregator))
