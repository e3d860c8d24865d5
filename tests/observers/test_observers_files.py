"""Checkpoints, results and pictures: whole or refused, never half."""

import json
from dataclasses import replace

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from flops_fl import limits
from flops_fl.core.observer import RunInfo
from flops_fl.core.plan import State
from flops_fl.errors import UsageError
from flops_fl.observers.picture import draw_history
from flops_fl.process.files import atomic
from flops_fl.run.checkpoint import (
    BEST,
    CHECKPOINTS,
    load_checkpoint,
    load_npz,
    save_npz,
)
from flops_fl.run.journal import FolderJournal
from flops_fl.run.result import result_document, write_result
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
        new_data={"a": {"data": "4f2a", "examples": 7}, "b": {"data": "", "examples": 2}},
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


def test_narrow_floats_come_back_from_a_file_that_numpy_alone_can_read(tmp_path):
    arrays = [np.ones((2, 3), "<f4"), np.array(1.5, ml_dtypes.bfloat16)]
    arrays += [np.arange(4).astype(ml_dtypes.float8_e5m2)]
    save_npz(tmp_path / "model.npz", arrays)
    loaded = load_npz(tmp_path / "model.npz")
    assert [(a.dtype, a.tolist()) for a in loaded] == [(a.dtype, a.tolist()) for a in arrays]
    with np.load(tmp_path / "model.npz") as stored:
        assert [stored[f"t{index}"].dtype for index in range(3)] == ["<f4", "<u2", "|u1"]
        assert stored["dtypes"].tolist() == ["t1 bfloat16", "t2 float8_e5m2"]


BETTER = [p + 1 for p in PARAMETERS]
FIRST = Best(round=1, loss=1.0, accuracy=0.5)


def states(rounds=2, parameters=lambda number: PARAMETERS):
    """What a training leaves one after the other: each fit, then its evaluation."""
    state = State(parameters=PARAMETERS)
    for number in range(1, rounds + 1):
        fitted = record(number, accuracy=None, loss=None)
        state = replace(state, parameters=parameters(number), round=number, pending=fitted)
        yield state
        done = record(number, 0.6 - 0.1 * number, failures=[FAILURE])
        state = replace(
            state, history=(*state.history, done), pending=None, best=state.best or FIRST
        )
        yield state


@pytest.fixture
def folder(tmp_path):
    journal = FolderJournal(tmp_path, RUN)
    journal.begin(State(parameters=PARAMETERS))
    for state in states(parameters=lambda number: BETTER if number == 1 else PARAMETERS):
        journal.write(state)
    return tmp_path


def test_a_checkpoint_holds_the_last_state_and_the_best_model(folder):
    checkpoint = load_checkpoint(folder)
    *_, last = states()
    assert checkpoint.run == RUN
    state = checkpoint.state
    assert (state.round, state.pending) == (2, None)
    assert (state.history, state.best) == (last.history, FIRST)
    assert [p.tolist() for p in state.parameters] == [p.tolist() for p in PARAMETERS]
    assert load_npz(folder / BEST)[1] == 4
    assert not list(folder.glob("*.part"))


def test_a_cluster_that_joined_late_goes_on_after_its_last_round(tmp_path):
    """Its first round is not the root's first, and a cycle may have ended before its time."""
    journal = FolderJournal(tmp_path, RUN)
    journal.begin(State(parameters=PARAMETERS, round=15))
    fitted = State(parameters=PARAMETERS, round=16, pending=record(16, accuracy=None, loss=None))
    journal.write(fitted)
    assert load_checkpoint(tmp_path).state.round == 16
    journal.write(replace(fitted, history=(record(16, 0.5),), pending=None))
    assert load_checkpoint(tmp_path).state.round == 16


def test_a_fit_is_kept_before_its_evaluation(folder):
    journal = FolderJournal(folder, RUN)
    journal.begin(load_checkpoint(folder).state)
    *_, fitted, _ = states(3, parameters=lambda number: [p + 7 for p in PARAMETERS])
    journal.write(fitted)
    state = load_checkpoint(folder).state
    assert (state.round, state.pending) == (3, fitted.pending)
    assert len(state.history) == 2
    assert state.parameters[1] == 10


def test_the_last_few_are_kept_and_a_new_run_clears_them(tmp_path):
    for turn in range(2):
        journal = FolderJournal(tmp_path, replace(RUN, run_id=f"r{turn}"))
        journal.begin(State(parameters=PARAMETERS))
        names = sorted(path.name for path in (tmp_path / CHECKPOINTS).iterdir())
        assert names == ["000000.json", "000000.npz"]
        for state in states(5):
            journal.write(state)
        names = sorted(path.name for path in (tmp_path / CHECKPOINTS).iterdir())
        assert len(names) == 2 * limits.CHECKPOINTS
        assert names[-1] == "000005.npz"


def test_a_new_run_says_so_first_and_leaves_nothing_of_an_earlier_one(folder):
    for name in ("model-last.npz", "history.png", "mlflow.db", "notes.txt"):
        (folder / name).touch()
    old = result_document(RUN, load_checkpoint(folder).state, status="completed")
    write_result(folder / "result.json", old)
    FolderJournal(folder, replace(RUN, run_id="new"), fresh=True).begin(
        State(parameters=PARAMETERS)
    )
    found = json.loads((folder / "result.json").read_text())
    assert (found["run_id"], found["status"], found["rounds"]) == ("new", "running", [])
    names = {path.name for path in folder.iterdir()}
    assert names == {"result.json", "checkpoints", "mlflow.db", "notes.txt"}


def test_a_run_that_goes_on_keeps_what_it_has(folder):
    FolderJournal(folder, RUN).begin(load_checkpoint(folder).state)
    assert json.loads((folder / "result.json").read_text())["status"] == "running"
    assert (folder / BEST).exists()
    assert load_checkpoint(folder).state.round == 2


def test_a_run_without_a_round_is_a_checkpoint_too(tmp_path):
    journal = FolderJournal(tmp_path, RUN, lambda: {"momentum": [np.ones(2)]})
    journal.begin(State(parameters=PARAMETERS))
    checkpoint = load_checkpoint(tmp_path)
    state = checkpoint.state
    assert (state.round, state.best, state.history) == (0, None, ())
    assert checkpoint.strategy["momentum"][0].tolist() == [1, 1]


@pytest.fixture(scope="module")
def two_rounds(tmp_path_factory):
    folder = tmp_path_factory.mktemp("two")
    journal = FolderJournal(folder, RUN)
    for state in states(parameters=lambda number: [p + number for p in PARAMETERS]):
        journal.write(state)
    return {path.name: path.read_bytes() for path in (folder / CHECKPOINTS).iterdir()}


@settings(max_examples=120, deadline=None)
@given(st.data())
def test_a_damaged_checkpoint_is_told_from_a_whole_one(tmp_path_factory, two_rounds, data):
    base = tmp_path_factory.mktemp("damage")
    (base / CHECKPOINTS).mkdir()
    for name, content in two_rounds.items():
        (base / CHECKPOINTS / name).write_bytes(content)
    name = data.draw(st.sampled_from(["000002.json", "000002.npz"]))
    path, whole = base / CHECKPOINTS / name, two_rounds[name]
    at = data.draw(st.integers(0, len(whole) - 1))
    if data.draw(st.booleans()):
        path.write_bytes(whole[:at])
    else:
        flipped = bytes([whole[at] ^ data.draw(st.integers(1, 255))])
        path.write_bytes(whole[:at] + flipped + whole[at + 1 :])
    read = load_checkpoint(base).state
    # Either the one before, or the damaged one's content after all: a byte that means nothing,
    # such as a date in the archive's directory.
    assert read.round in (1, 2)
    assert [r.round for r in read.history] == list(range(1, read.round + 1))
    for ours, theirs in zip(read.parameters, PARAMETERS, strict=True):
        assert ours.tobytes() == (theirs + read.round).tobytes()


def test_when_all_are_damaged_it_says_what_to_do(folder):
    for path in (folder / CHECKPOINTS).glob("*.npz"):
        path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(UsageError, match="damaged .* --fresh"):
        load_checkpoint(folder)


def test_where_there_never_was_one_there_is_none(tmp_path):
    assert load_checkpoint(tmp_path) is None
    with pytest.raises(UsageError, match="is not there"):
        load_npz(tmp_path / "none.npz")


def test_a_write_that_fails_leaves_the_old_file(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"old")
    with pytest.raises(TypeError), atomic(path) as file:
        file.writelines([b"new", None])
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_the_result_is_json_without_nan(tmp_path):
    history = (record(1, accuracy=0.0, loss=float("nan"), failures=[FAILURE]),)
    state = State(
        parameters=[], round=1, history=history, best=Best(round=1, loss=None, accuracy=0.0)
    )
    failed = record(2, None, None, failures=[FAILURE])
    document = result_document(
        RUN, state, status="failed", error="why", failed_round=failed, model_sha256="x"
    )
    write_result(tmp_path / "result.json", document)
    read = json.loads((tmp_path / "result.json").read_text())
    assert read["rounds"][0]["loss"] is None
    assert read["rounds"][0]["accuracy"] == 0.0
    told = {"a": {"data": "4f2a", "examples": 7}, "b": {"data": None, "examples": 2}}
    assert read["rounds"][0]["new_data"] == told
    assert read["rounds"][0]["failures"] == [
        {"learner": "c", "stage": "fit_model", "reason": "broken"}
    ]
    assert (read["run_id"], read["status"], read["error"]) == ("r", "failed", "why")
    assert (read["failed_round"]["round"], len(read["failed_round"]["failures"])) == (2, 1)
    assert read["best"] == {"round": 1, "loss": None, "accuracy": 0.0}
    assert read["repo"] == {"source": "s", "commit": None, "folder": None}


@pytest.mark.parametrize("history", [[record(1)], [record(1, None, None), record(2), record(3)]])
def test_the_picture_is_a_png(tmp_path, history):
    draw_history(history, tmp_path / "p.png", "title")
    assert (tmp_path / "p.png").read_bytes().startswith(b"\x89PNG")
