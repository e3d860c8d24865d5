"""Reconnecting: what a learner reports, how long it waits, when it gives up."""

import pytest

from flops_fl.errors import Unreachable
from flops_fl.net.address import Address
from flops_fl.wire.line import redial
from flops_fl.wire.line.redial import DialOptions, Redial

WHERE = "aggregator at 127.0.0.1:80"


class Clock:
    """Time that passes when it is told to."""

    now = 1000.0

    def monotonic(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(redial, "time", clock)
    return clock


@pytest.fixture
def said():
    return []


@pytest.fixture
def redials(clock, said):
    options = DialOptions(
        address=Address("127.0.0.1", 80),
        connect_timeout=300,
        reconnect_timeout=3600,
        on_event=lambda learner, event: said.append(event),
    )
    return Redial("a", options)


def test_a_wait_is_said_once_and_then_less_and_less(redials, clock, said):
    for _ in range(250):
        redials.failed("refused")
        clock.now += 1
    assert said == [
        f"waiting for the {WHERE} (refused)",
        f"waiting for the {WHERE}, 30 s by now (refused)",
        f"waiting for the {WHERE}, 90 s by now (refused)",
        f"waiting for the {WHERE}, 210 s by now (refused)",
    ]


def test_only_who_was_connected_is_disconnected(redials, said):
    redials.failed("refused")
    redials.welcomed()
    redials.failed("closed")
    redials.failed("refused")
    assert said == [
        f"waiting for the {WHERE} (refused)",
        f"connected to the {WHERE}",
        "disconnected (closed), trying again",
    ]


def test_waits_grow_and_begin_anew_after_a_connection_that_stood(redials, clock):
    waits = [redials.failed("x") for _ in range(20)]
    assert waits[0] <= 0.2
    assert 5 <= waits[-1] <= 10
    redials.welcomed()
    clock.now += 11
    assert redials.failed("x") <= 0.2


def test_waits_grow_if_the_aggregator_lets_in_and_hangs_up(redials):
    for _ in range(20):
        redials.welcomed()
        wait = redials.failed("x")
    assert wait >= 5


def test_the_limits(redials, clock):
    clock.now += 301
    with pytest.raises(Unreachable, match=r"for 301 s \(--connect-timeout\): x"):
        redials.failed("x")
    redials.failed("x", patient=True)
    redials.welcomed()
    clock.now += 9999  # a long fit, on a connection that stood
    redials.failed("x")
    clock.now += 3601
    with pytest.raises(Unreachable, match="--reconnect-timeout"):
        redials.failed("x")
