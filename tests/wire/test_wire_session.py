"""The table of the session's states: both ends agree, whichever messages come in which order."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flops_fl.errors import ProtocolError
from flops_fl.types import Task
from flops_fl.wire import messages as m
from flops_fl.wire.session import Conversation, Side, State

A, L = Side.AGGREGATOR, Side.LEARNER
LARGE = 16  # bytes


def task(round, stage="fit"):
    return Task(stage=stage, run_id="r", round=round, version=round - 1, seed=0)


def order(round):
    return m.Order(task=task(round))


HELLO = m.Hello(learner="a", nonce="n", fingerprint="f")
WELCOME = m.Welcome(learner="a", run_id="r")


def result(round):
    return m.Result(key=task(round).key, examples=1, nbytes=LARGE)


def chunk(round, size):
    return m.Chunk(version=round, offset=0, data=memoryview(bytes(size)))


CANCELLED = [(L, HELLO), (A, WELCOME), (A, order(1)), (A, m.Cancel(key=task(1).key))]
CUT_OFF = [*CANCELLED[:3], (L, result(1)), (A, m.Grant(key=task(1).key)), CANCELLED[3]]


def said(*steps):
    conversation = Conversation()
    outcomes = [conversation.step(side, message) for side, message in steps]
    return conversation, outcomes


def test_a_round_of_a_large_model():
    conversation, outcomes = said(
        (L, HELLO),
        (A, WELCOME),
        (A, order(1)),
        (A, chunk(0, 16)),
        (L, result(1)),
        (A, m.Grant(key=task(1).key)),
        (L, chunk(1, 10)),
        (L, chunk(1, 6)),
    )
    assert all(outcomes)
    assert conversation.state is State.IDLE
    assert conversation.task is None


def test_an_answer_that_crossed_a_cancel_is_stale_not_wrong():
    conversation, outcomes = said(
        (L, HELLO),
        (A, WELCOME),
        (A, order(1)),
        (A, m.Cancel(key=task(1).key)),
        (L, result(1)),
        (A, order(2)),
        (L, m.Result(key=task(2).key, examples=1)),
    )
    assert outcomes == [True, True, True, True, False, True, True]
    assert conversation.state is State.IDLE


def test_an_upload_that_crossed_its_cancel_is_stale_in_the_evaluation_too():
    _, outcomes = said(
        (L, HELLO),
        (A, WELCOME),
        (A, order(1)),
        (L, result(1)),
        (A, m.Grant(key=task(1).key)),
        (A, m.Cancel(key=task(1).key)),
        (A, m.Order(task=task(1, "evaluate"))),
        (L, chunk(1, 4)),
        (L, m.Result(key=task(1, "evaluate").key, examples=1)),
    )
    assert outcomes == [True] * 7 + [False, True]


@pytest.mark.parametrize(
    "crossing",
    [result(1), m.Failure(key=task(1).key, stage="fit", reason=""), m.Ping(answer=True)],
    ids=lambda message: type(message).__name__,
)
def test_what_crosses_the_other_sides_goodbye_is_stale(crossing):
    conversation, outcomes = said(
        (L, HELLO), (A, WELCOME), (A, order(1)), (A, m.Goodbye()), (L, crossing), (L, m.Goodbye())
    )
    assert outcomes[-2] is False
    assert conversation.state is State.CLOSED


@pytest.mark.parametrize(
    "steps",
    [
        [(L, m.Result(key="x", examples=1))],
        [(A, WELCOME)],
        [(L, HELLO), (L, HELLO)],
        [(L, HELLO), (A, WELCOME), (L, HELLO)],
        [(L, HELLO), (A, WELCOME), (A, chunk(1, 1))],
        [(L, HELLO), (A, WELCOME), (L, order(1))],
        [(L, HELLO), (A, WELCOME), (A, order(1)), (A, order(2))],
        [(L, HELLO), (A, WELCOME), (A, order(1)), (L, chunk(1, 4))],
        [(L, HELLO), (A, WELCOME), (A, order(1)), (A, m.Grant(key=task(1).key))],
        [(L, HELLO), (A, WELCOME), (A, order(1)), (L, result(1)), (L, chunk(1, 4))],
        [
            (L, HELLO),
            (A, WELCOME),
            (A, order(1)),
            (L, result(1)),
            (A, m.Grant(key=task(1).key)),
            (L, chunk(1, 17)),
        ],
        [
            (L, HELLO),
            (A, WELCOME),
            (A, m.Order(task=task(1, "evaluate"))),
            (L, m.Result(key=task(1, "evaluate").key, examples=1, nbytes=LARGE)),
        ],
        [(L, HELLO), (A, WELCOME), (L, result(1))],
        [(L, HELLO), (A, WELCOME), (A, order(1)), (L, result(2))],
        [(L, HELLO), (A, WELCOME), (L, m.Failure(key=task(1).key, stage="fit", reason=""))],
        [(L, HELLO), (A, WELCOME), (L, chunk(1, 4))],
        [(L, HELLO), (A, WELCOME), (L, m.Ping(answer=True))],
        [*CANCELLED, (L, result(1)), (L, m.Failure(key=task(1).key, stage="fit", reason=""))],
        [*CANCELLED, (L, chunk(1, 4))],
        [*CUT_OFF, (L, chunk(1, LARGE - 4)), (L, chunk(1, 4)), (L, chunk(1, 1))],
        [*CUT_OFF, (L, chunk(1, 0))],
        [(L, HELLO), (A, m.Refusal(reason="no")), (A, order(1))],
        [(L, HELLO), (A, m.Goodbye()), (A, WELCOME)],
    ],
)
def test_what_must_not_be_said_now_is_an_error(steps):
    said(*steps[:-1])
    with pytest.raises(ProtocolError):
        said(*steps)


ANY = st.tuples(
    st.sampled_from(Side),
    st.one_of(
        st.just(HELLO),
        st.just(WELCOME),
        st.builds(order, st.integers(1, 2)),
        st.builds(result, st.integers(1, 2)),
        st.builds(lambda r: m.Result(key=task(r).key, examples=1), st.integers(1, 2)),
        st.builds(lambda r: m.Grant(key=task(r).key), st.integers(1, 2)),
        st.builds(lambda r: m.Cancel(key=task(r).key), st.integers(1, 2)),
        st.builds(chunk, st.integers(1, 2), st.integers(0, 20)),
        st.just(m.Ping()),
        st.just(m.Goodbye()),
    ),
)


@given(st.lists(ANY, max_size=30))
def test_any_sequence_is_followed_or_refused_and_never_corrupts_the_state(steps):
    conversation = Conversation()
    for side, message in [(L, HELLO), (A, WELCOME), *steps]:
        before = conversation.state, conversation.task
        try:
            relevant = conversation.step(side, message)
        except ProtocolError:
            break
        if not relevant:
            assert (conversation.state, conversation.task) == before
        busy = conversation.state in (State.WORKING, State.OFFERED, State.UPLOADING)
        assert busy == (conversation.task is not None)
