"""Checkpoints, results and pictures: whole or refused, never half."""

import io
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from rich.console import Console

from flops_fl.core.observer import RunInfo
from flops_fl.errors import UsageError
from flops_fl.observers.checkpoint import (
    BEST,
    CHECKPOINT,
    LAST,
    CheckpointObserver,
    load_checkpoint,
    load_npz,
    save_npz,
)
from flops_fl.observers.console import ConsoleObserver
from flops_fl.observers.files import atomic
from flops_fl.observers.picture import draw_history
from flops_fl.observers.result import result_document, write_result
from flops_fl.types import Best, LearnerFailure, RoundRecord

RUN = RunInfo(
    project_id="p", run_id="r", repo_source="s", repo_commit=None, strategy="FedAvg", seed=1,
    rounds=3, options={"fraction_fit": 1.0},
)  # fmt: skip
PARAMETERS = [np.arange(5, dtype="<f4"), np.array(3), np.zeros((0, 2), ">f8")]


def record(number, accuracy=0.5, loss=1.0, failures=()):
    return RoundRecord(
        round=number,
        seconds=1.5,
        fit_seconds=1.0,
        evaluate_seconds=0.5,
        loss=loss,
        accuracy=accuracy,
        examples=9,
        bytes_down=1,
        bytes_up=2,
        learners=("a", "b"),
        failures=tuple(failures),
    )


FAILURE = LearnerFailure(learner="c", stage="fit_model", reason="broken", traceback="Trace")


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        hnp.arrays(
            st.sampled_from(["<f4", ">f4", "<f2", "<i8", "|b1", "<c8"]).map(np.dtype),
            hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4),
        ),
        min_size=1,
        max_size=12,
    )
)
def test_a_model_comes_back_from_its_file(tmp_path_factory, arrays):
    path = tmp_path_factory.mktemp("npz") / "model.npz"
    save_npz(path, [np.array(a, order="F") for a in arrays])
    for ours, theirs in zip(load_npz(path), arrays, strict=True):
        assert (ours.dtype, ours.shape) == (theirs.dtype, theirs.shape)
        assert ours.tobytes() == theirs.tobytes()


@pytest.fixture
def folder(tmp_path):
    observer = CheckpointObserver(tmp_path)
    observer.on_start(RUN, [])
    better = [p + 1 for p in PARAMETERS]
    observer.on_round(record(1), better, Best(round=1, loss=1.0, accuracy=0.5))
    observer.on_round(
        record(2, 0.4, failures=[FAILURE]), PARAMETERS, Best(round=1, loss=1.0, accuracy=0.5)
    )
    observer.on_end("completed", None, PARAMETERS)
    return tmp_path


def test_a_checkpoint_holds_the_last_state_and_the_best_model(folder):
    checkpoint = load_checkpoint(folder / CHECKPOINT)
    assert checkpoint.run == RUN
    assert checkpoint.history == (record(1), record(2, 0.4, failures=[FAILURE]))
    assert checkpoint.best.round == 1
    assert [p.tolist() for p in checkpoint.parameters] == [p.tolist() for p in PARAMETERS]
    assert load_npz(folder / BEST)[1] == 4
    assert load_npz(folder / LAST)[1] == 3
    assert not list(folder.glob("*.part"))


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_a_damaged_checkpoint_is_told_from_a_whole_one(tmp_path_factory, data):
    base = tmp_path_factory.mktemp("damage")
    observer = CheckpointObserver(base)
    observer.on_start(RUN, [])
    observer.on_round(record(1), PARAMETERS, Best(round=1, loss=1.0, accuracy=0.5))
    path = base / CHECKPOINT
    whole = path.read_bytes()
    expected = load_checkpoint(path)
    at = data.draw(st.integers(0, len(whole) - 1))
    if data.draw(st.booleans()):
        path.write_bytes(whole[:at])
    else:
        flipped = bytes([whole[at] ^ data.draw(st.integers(1, 255))])
        path.write_bytes(whole[:at] + flipped + whole[at + 1 :])
    try:
        read = load_checkpoint(path)
    except UsageError:
        return
    # A byte that means nothing, such as a date in the archive's directory.
    assert read.run == expected.run
    assert read.history == expected.history
    for ours, theirs in zip(read.parameters, expected.parameters, strict=True):
        assert ours.tobytes() == theirs.tobytes()


def test_a_damaged_checkpoint_says_what_to_do(folder):
    path = folder / CHECKPOINT
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(UsageError, match="is damaged .* --fresh"):
        load_checkpoint(path)


def test_a_missing_checkpoint_is_a_usage_error(tmp_path):
    with pytest.raises(UsageError, match="is not there"):
        load_checkpoint(tmp_path / "none.npz")


def test_a_write_that_fails_leaves_the_old_file(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"old")
    with pytest.raises(TypeError), atomic(path) as file:
        file.writelines([b"new", None])
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_the_result_is_json_without_nan(tmp_path):
    document = result_document(
        RUN,
        [record(1, accuracy=0.0, loss=float("nan"), failures=[FAILURE])],
        Best(round=1, loss=None, accuracy=0.0),
        model_sha256="x",
        peak_memory_bytes=5,
        mlflow=None,
        status="completed",
        error=None,
    )
    write_result(tmp_path / "result.json", document)
    read = json.loads((tmp_path / "result.json").read_text())
    assert read["rounds"][0]["loss"] is None
    assert read["rounds"][0]["accuracy"] == 0.0
    assert read["rounds"][0]["failures"] == [
        {"learner": "c", "stage": "fit_model", "reason": "broken"}
    ]
    assert read["best"] == {"round": 1, "loss": None, "accuracy": 0.0}
    assert read["repo"] == {"source": "s", "commit": None}


@pytest.mark.parametrize("history", [[record(1)], [record(1, None, None), record(2), record(3)]])
def test_the_picture_is_a_png(tmp_path, history):
    draw_history(history, tmp_path / "p.png", "title")
    assert (tmp_path / "p.png").read_bytes().startswith(b"\x89PNG")


def _watch(console, learners=3):
    observer = ConsoleObserver(console)
    names = [f"l{n:04}" for n in range(learners)]
    observer.on_start(RUN, [])
    observer.on_wait("learners", 1, learners)
    observer.on_stage(1, "fit", names)
    for name in names:
        observer.on_answer(1, "fit", name, "broken" if name == "l0001" else None)
    best = Best(round=1, loss=1.0, accuracy=0.5)
    observer.on_round(record(1, failures=[FAILURE] * 5), [], best)
    observer.on_end("failed", "why", [])


@pytest.mark.parametrize("learners", [3, 1000])
def test_a_plain_stream_gets_plain_lines(learners):
    stream = io.StringIO()
    _watch(Console(file=stream, width=100), learners)
    text = stream.getvalue()
    assert "\x1b" not in text
    assert "round 1/3" in text
    assert "accuracy 0.5000" in text
    assert "c failed in fit_model: broken" in text
    assert "and 2 more failed" in text
    assert "training failed" in text
    assert text.count("\n") < 30


def test_a_terminal_gets_a_bar_that_goes_away():
    stream = io.StringIO()
    _watch(Console(file=stream, width=100, force_terminal=True))
    assert "round 1/3 fit" in stream.getvalue()
    assert "training failed" in stream.getvalue()
