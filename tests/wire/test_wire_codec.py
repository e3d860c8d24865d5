"""Frames: decoding returns what was encoded, and garbage raises only ProtocolError."""

from contextlib import suppress

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from flops_fl.errors import ProtocolError
from flops_fl.types import Layout, Task
from flops_fl.wire import flops_pb2 as pb
from flops_fl.wire import messages as m
from flops_fl.wire.chunks import CHUNK_BYTES, Assembler, Chunks, arrays_in, byte_views, chunk_frame
from flops_fl.wire.codec import decode, encode

TEXT = st.text(max_size=20)
KEYS = st.text(max_size=10)
SCALARS = st.dictionaries(
    KEYS,
    st.one_of(
        st.booleans(),
        st.integers(-(2**63), 2**63 - 1),
        st.floats(allow_nan=False),
        st.text(max_size=5),
        st.binary(max_size=5),
    ),
    max_size=3,
)
SIZES = st.lists(st.integers(0, 2**64 - 1), max_size=3).map(tuple)
TASKS = st.builds(
    Task,
    stage=st.sampled_from(["fit", "evaluate"]),
    run_id=TEXT,
    round=st.integers(0, 2**40),
    version=st.integers(0, 2**40),
    seed=st.integers(0, 2**63 - 1),
    config=SCALARS,
)
MESSAGES = st.one_of(
    st.builds(
        m.Hello,
        learner=TEXT,
        nonce=TEXT,
        fingerprint=TEXT,
        commit=TEXT,
        versions=st.dictionaries(KEYS, TEXT, max_size=3),
        task=TEXT,
        run_id=TEXT,
        version=st.integers(-1, 2**40),
        state=TEXT,
    ),
    st.builds(m.Welcome, learner=TEXT, run_id=TEXT),
    st.builds(m.Refusal, reason=TEXT, retry=st.booleans()),
    st.builds(m.Order, task=TASKS, nbytes=st.none() | st.integers(0, 2**40), sizes=SIZES),
    st.builds(
        lambda task, data: m.Order(task=task, nbytes=len(data), inline=data),
        TASKS,
        st.binary(max_size=100),
    ),
    st.builds(
        m.Result,
        key=TEXT,
        examples=st.integers(-(2**63), 2**63 - 1),
        loss=st.floats(allow_nan=False),
        metrics=SCALARS,
        nbytes=st.none() | st.integers(0, 2**40),
        sizes=SIZES,
        data=TEXT,
    ),
    st.builds(m.Failure, key=TEXT, stage=TEXT, reason=TEXT, traceback=TEXT),
    st.builds(m.Grant, key=TEXT),
    st.builds(m.Cancel, key=TEXT, reason=TEXT),
    st.builds(m.Goodbye, reason=TEXT, final=st.booleans(), failed=st.booleans()),
    st.builds(m.Ping, answer=st.booleans()),
    st.builds(
        m.Chunk,
        version=st.integers(0, 2**64 - 1),
        offset=st.integers(0, 2**64 - 1),
        data=st.binary(max_size=300).map(memoryview),
    ),
)
ARRAYS = st.lists(
    hnp.arrays(
        st.sampled_from(["<f4", ">f4", "<i8", "|b1", "<f2", "<c16"]).map(np.dtype),
        hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=6),
    ),
    min_size=1,
    max_size=5,
)


@given(MESSAGES)
def test_what_is_encoded_is_decoded(message):
    assert decode(encode(message)) == message


@st.composite
def _damaged(draw, frame):
    cut = draw(st.integers(0, len(frame)))
    at = draw(st.integers(0, max(len(frame) - 1, 0)))
    byte = draw(st.binary(min_size=1, max_size=1))
    return draw(st.sampled_from([frame[:cut], frame[:at] + byte + frame[at + 1 :], frame * 2]))


@given(st.binary(max_size=200) | MESSAGES.map(encode).flatmap(_damaged))
def test_arbitrary_bytes_decode_or_raise_the_protocols_own_error(frame):
    with suppress(ProtocolError):
        decode(frame)


@given(st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1), st.binary(max_size=500))
def test_a_chunk_is_the_protobuf_message_it_claims_to_be(version, offset, data):
    parsed = pb.Frame.FromString(chunk_frame(version, offset, [memoryview(data)]))
    assert (parsed.chunk.version, parsed.chunk.offset, parsed.chunk.data) == (version, offset, data)
    by_protobuf = parsed.SerializeToString()
    assert decode(by_protobuf) == m.Chunk(version=version, offset=offset, data=memoryview(data))


@given(ARRAYS)
def test_a_model_in_chunks_is_the_same_model(arrays):
    target = Assembler(Layout.of(arrays).empty())
    for frame, size in Chunks(7, arrays):
        chunk = decode(frame)
        assert chunk.version == 7
        assert len(chunk.data) == size
        target.add(chunk.offset, chunk.data)
    assert target.complete
    assert_same(target.arrays, arrays)


@given(ARRAYS)
def test_a_model_inside_a_message_is_the_same_model(arrays):
    found = arrays_in(Chunks(7, arrays).inline, Layout.of(arrays))
    assert_same(found, arrays)
    assert not any(array.flags.writeable for array in found)


def assert_same(found, arrays):
    for ours, theirs in zip(found, arrays, strict=True):
        assert ours.dtype == theirs.dtype
        assert ours.shape == theirs.shape
        assert ours.tobytes() == theirs.tobytes()


def test_tensors_span_chunks_and_chunks_span_tensors():
    big = np.arange(CHUNK_BYTES // 4 * 2 + 5, dtype="<f4")
    arrays = [np.ones(3, "<f8"), big, np.asfortranarray(np.ones((4, 5), "<i2")), np.array(7)]
    frames = [frame for frame, _ in Chunks(1, arrays)]
    assert len(frames) == 3
    target = Assembler(Layout.of(arrays).empty())
    for frame in frames:
        target.add(decode(frame).offset, decode(frame).data)
    assert [a.tolist() for a in target.arrays] == [a.tolist() for a in arrays]
    assert b"".join(byte_views(arrays)) == b"".join(a.tobytes() for a in target.arrays)


@pytest.mark.parametrize("name", ["bfloat16", "float8_e4m3fn", "float8_e5m2"])
def test_narrow_floats_travel_under_their_names(name):
    dtype = np.dtype(getattr(ml_dtypes, name))
    arrays = [np.arange(-3, 3).astype(dtype).reshape(2, 3), np.array(0.5, dtype)]
    layout = Layout.of(arrays)
    assert [spec.dtype for spec in layout.tensors] == [name, name]
    data = b"".join(byte_views(arrays))
    message = m.Result(key="k", examples=1, metrics={}, nbytes=layout.nbytes, inline=data)
    assert decode(encode(message)) == message
    target = Assembler(layout.empty())
    for frame, _ in Chunks(7, arrays):
        target.add(decode(frame).offset, decode(frame).data)
    for ours, theirs in zip(target.arrays, arrays, strict=True):
        assert ours.dtype == dtype
        assert ours.tolist() == theirs.tolist()


@pytest.mark.parametrize("offset", [0, 3, 100])
def test_a_piece_out_of_place_is_refused(offset):
    target = Assembler([np.zeros(4, "<f4")])
    target.add(0, b"12345")
    with pytest.raises(ProtocolError, match="expected them to continue at 5 of 16"):
        target.add(offset, b"x")


def test_more_than_was_announced_is_refused():
    with pytest.raises(ProtocolError):
        Assembler([np.zeros(1, "|u1")]).add(0, b"12")


def test_a_model_of_absurd_size_is_refused_before_anything_is_allocated():
    frame = pb.Frame()
    frame.result.nbytes = 2**41
    with pytest.raises(ProtocolError, match="at most"):
        decode(frame.SerializeToString())


def test_tensors_that_are_not_as_long_as_announced_are_refused():
    frame = pb.Frame()
    frame.result.nbytes, frame.result.inline = 3, b"four"
    with pytest.raises(ProtocolError, match="4 bytes of tensors, announced as 3"):
        decode(frame.SerializeToString())


def test_surrogates_from_user_code_do_not_break_a_frame():
    failure = m.Failure(key="k", stage="fit_model", reason="bad \udcff name")
    assert decode(encode(failure)).reason == "bad ? name"


def test_a_task_of_no_round_is_refused():
    """Its update's chunks could not carry it."""
    frame = encode(m.Order(task=Task(stage="fit", run_id="r", round=-1, version=0, seed=0)))
    with pytest.raises(ProtocolError, match="task of round -1 with parameters 0"):
        decode(frame)
