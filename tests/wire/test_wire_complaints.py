"""The log of refused and broken clients."""

import asyncio
import logging

from flops_fl.wire.hub.complaints import MOST_KINDS, Complaints


def test_any_number_of_addresses_makes_a_bounded_number_of_lines(caplog):
    async def scenario():
        complaints = Complaints()
        for index in range(10_000):
            peer = f"10.{index >> 8}.{index & 255}.1:4711"
            complaints.warn(f"l{index}", peer, "broke the protocol", f"no Hello within {index} s")
        assert len(caplog.records) == MOST_KINDS + 1
        complaints.close()

    with caplog.at_level(logging.WARNING):
        asyncio.run(scenario())
    assert len(caplog.records) == MOST_KINDS + 2
    last = caplog.messages[-1]
    assert last.startswith(
        f"... and {10_000 - MOST_KINDS - 1} more from other addresses in the last"
    )
    assert last.endswith("(broke the protocol), among them l101, l102, l103")


def test_kinds_and_addresses_have_lines_of_their_own(caplog):
    async def scenario():
        complaints = Complaints()
        complaints.warn("a", "10.0.0.1:1", "refused", "learner id 'a' is in use")
        complaints.warn("b", "10.0.0.1:2", "refused", "learner id 'b' is in use")
        complaints.warn("b", "10.0.0.2:1", "refused", "learner id 'b' is in use")
        complaints.warn("a", "10.0.0.1:1", "refused", "the model's tensors differ")
        complaints.close()

    with caplog.at_level(logging.WARNING):
        asyncio.run(scenario())
    assert len(caplog.messages) == 4
    assert caplog.messages[-1] == (
        "... and 1 more from 10.0.0.1 in the last 30 s (refused: learner id), among them b"
    )


def test_a_reason_that_begins_with_a_value_has_a_kind(caplog):
    async def scenario():
        complaints = Complaints()
        for size in (7, 8):
            complaints.warn("a", "10.0.0.1:1", "broke the protocol", f"{size} bytes, not a Hello")
        complaints.close()

    with caplog.at_level(logging.WARNING):
        asyncio.run(scenario())
    assert "(broke the protocol: bytes, not a Hello), among them a" in caplog.messages[-1]
