"""What the processes of a simulation report to each other about failures."""

import os

import pytest

from flops_fl.actors.faults import read_fault, telling, write_fault
from flops_fl.actors.hosts import _silent
from flops_fl.errors import DataError, FederationError, RepositoryError
from flops_fl.process.prints import log_of


@pytest.fixture
def pipe():
    ends = os.pipe()
    yield ends
    for end in ends:
        os.close(end)


def raised(error):
    def work():
        raise error

    return work


def test_an_error_arrives_as_it_was_with_its_traceback(pipe):
    error = RepositoryError("set_model_data failed: ü", stage="set_model_data", traceback="T\nU\n")
    assert telling(raised(error), pipe[1]) == 3
    found = read_fault(pipe[0])
    assert isinstance(found, RepositoryError)
    assert (str(found), found.stage, found.traceback) == (str(error), error.stage, "T\nU\n")
    assert read_fault(pipe[0]) is None


@pytest.mark.parametrize("error", [DataError("no data"), FederationError("nobody")])
def test_an_error_keeps_its_exit_code(pipe, error):
    write_fault(error, pipe[1])
    assert read_fault(pipe[0]).exit_code == error.exit_code


def test_nobody_waits_for_the_reader_of_a_long_error(pipe):
    long = RepositoryError('\n"é' * 100_000, stage="fit_model", traceback="😀\n" * 100_000)
    write_fault(long, pipe[1])
    assert read_fault(pipe[0]).traceback.endswith("😀\n")


def test_a_bug_is_said_to_stand_above_since_python_prints_it(pipe):
    with pytest.raises(ZeroDivisionError):
        telling(lambda: 1 // 0, pipe[1])
    assert "its error stands above" in str(read_fault(pipe[0]))


def test_a_process_that_ends_without_a_word_is_named_with_its_code(tmp_path, caplog):
    values = {"log_folder": str(tmp_path), "learner_id": "l0,l1"}
    log_of(tmp_path, "l1").write_text("")
    error = _silent(values, 7)
    assert str(error).startswith("l1 was at work when its process ended with exit code 7")
    assert error.exit_code == 4
    assert not caplog.records  # it has printed nothing
    log_of(tmp_path, "l1").write_text("so far so good\n")
    assert "was killed by SIGSEGV" in str(_silent(values, -11))
    assert "so far so good" in caplog.text
