"""Foreign text is shown short, on one line, and without control codes for the terminal."""

from hypothesis import given
from hypothesis import strategies as st

from flops_fl.text import SENTENCE, TRACEBACK, counted, paragraph, reason, sentence
from flops_fl.types import LearnerFailure

HOSTILE = st.text(
    st.sampled_from("ab \n\r\t\x1b[2J\x07\x00\u2028\u202e\x9b\ud800é"), max_size=700
) | st.text(max_size=20_000)


def harmless(text):
    return not any((ord(c) < 32 and c not in "\n\t") or 127 <= ord(c) < 160 for c in text)


@given(HOSTILE)
def test_a_sentence_is_one_short_line(text):
    shown = sentence(text)
    assert "\n" not in shown
    assert harmless(shown)
    assert len(shown) <= 8 * SENTENCE  # escapes are longer than what they stand for
    shown.encode()


@given(HOSTILE)
def test_a_traceback_keeps_its_end(text):
    shown = paragraph(text)
    assert harmless(shown)
    assert len(shown) <= 8 * (TRACEBACK + 10)
    shown.encode()


def test_a_failure_is_cut_wherever_it_comes_from():
    failure = LearnerFailure(
        learner="a", stage="fit", reason="x" * 3_000_000, traceback="\x1b[31m" + "y\n" * 10**6
    )
    assert failure.reason.endswith("... (3000000 characters)")
    assert len(failure.reason) <= SENTENCE
    assert len(failure.traceback) <= TRACEBACK + 10


def wrapped(below, *texts):
    """An error as libraries wrap it: each text quotes the error below."""
    for text in texts:
        above = RuntimeError(text.format(below))
        above.__context__ = below
        below = above
    return below


def test_the_reason_of_an_error_is_what_the_system_said():
    refused = ConnectionRefusedError(111, "Connection refused")
    long = "x" * SENTENCE + " (Caused by {})"
    assert reason(wrapped(refused, "no connection: {}", long, "failed with {}")) == (
        "Connection refused"
    )
    assert reason(wrapped(TimeoutError("timed out"), "Read timed out. {}")) == "timed out"
    missing = FileNotFoundError(2, "No such file or directory", "a.json")
    assert reason(wrapped(missing, "{}")) == "[Errno 2] No such file or directory: 'a.json'"


def test_an_error_that_says_more_than_its_cause_is_the_reason():
    said = "Registered Model with name=x not found"
    assert reason(wrapped(KeyError("x"), said)) == said
    assert reason(wrapped(OSError("aside"), said)) == said
    assert reason(wrapped(KeyError("x"), "no {} there.\nMore lines")) == "no 'x' there"


def test_one_is_no_plural():
    assert [counted(n, "round") for n in (0, 1, 2)] == ["0 rounds", "1 round", "2 rounds"]
    assert [counted(n, "process") for n in (1, 2)] == ["1 process", "2 processes"]
