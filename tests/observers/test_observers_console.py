"""The console names learners that join, but does not print a line each for thousands."""

import io
import time
from dataclasses import replace

import pytest
from rich.console import Console

from flops_fl.observers import presence as module
from flops_fl.observers.console import ConsoleObserver
from flops_fl.observers.presence import Presence
from flops_fl.types import Best, LearnerFailure, RoundRecord
from tests.conftest import wait_until
from tests.observers.test_observers_files import FAILURE, RUN, record

HEADER = len("2025-01-01 00:00:00 ")


class Clock:
    now = 1000.0

    def monotonic(self):
        return self.now


def watch(monkeypatch, learners, seconds, minimum):
    """What is said in a log while learners join, evenly over so many seconds."""
    clock, stream = Clock(), io.StringIO()
    monkeypatch.setattr(module, "time", clock)
    observer = ConsoleObserver(Console(file=stream, width=200))
    present = []
    for name in learners:
        observer.on_wait(present, minimum)
        clock.now += seconds / len(learners)
        present.append(name)
    observer.on_wait(present, minimum)
    return [line[HEADER:] for line in stream.getvalue().splitlines()]


def test_a_few_are_told_by_name(monkeypatch):
    assert watch(monkeypatch, ["b", "a"], 1, 2) == [
        "0 of 2 learners present",
        "1 of 2 learners present: b joined",
        "2 of 2 learners present: a joined",
    ]


def test_thousands_take_a_handful_of_lines(monkeypatch):
    names = [f"l{index:05d}" for index in range(1000)]
    lines = watch(monkeypatch, names, 55, 1000)
    assert len(lines) <= 8
    assert lines[-1].startswith("1000 of 1000 learners present: l00")
    assert all(len(line) < 100 for line in lines)


def test_learners_that_are_cut_off_together_are_one_line_and_flapping_ones_get_few(monkeypatch):
    monkeypatch.setattr("flops_fl.observers.presence.GATHERING", 0.05)
    lines = []
    presence = Presence(lines.append)
    for number in range(50):
        presence.cut_off(f"l{number:02}", "connection lost", 600.0)
    presence.back("l49")  # in the same moment: nobody needs to hear that it was away
    wait_until(lambda: len(lines) == 2)
    assert sorted(lines) == [
        "l00, l01, l02 and 46 more are cut off (connection lost), expected back for 600 s",
        "l49 is back",
    ]
    for number in range(40):
        presence.cut_off("l00", f"lost {number}", 600.0)
        time.sleep(0.01)
        presence.back("l00")
    assert presence.named(["l00", "l01"]) == "l00, l01 (cut off)"
    presence.stop()
    assert len(lines) < 15


EMPTY = RoundRecord(
    round=1, seconds=1.0, fit_seconds=1.0, evaluate_seconds=0.5, loss=1.0, accuracy=1.0,
    examples=9, bytes_down=1, bytes_up=2, learners=(),
)  # fmt: skip


def test_an_accuracy_in_percent_is_asked_about_once():
    stream = io.StringIO()
    observer = ConsoleObserver(Console(file=stream, width=200))
    observer.on_round(EMPTY, None)
    assert "percent" not in stream.getvalue()
    for _ in range(2):
        observer.on_round(replace(EMPTY, accuracy=97.5), None)
    assert stream.getvalue().count("accuracy 97.5, expected a share from 0 to 1: is it in per") == 1


@pytest.mark.parametrize(("learners", "reasons"), [((), 0), (("b",), 1)])
def test_a_failed_rounds_reasons_are_left_to_the_error_that_has_them(learners, reasons):
    stream = io.StringIO()
    failure = LearnerFailure(learner="a", stage="fit_model", reason="too bad", traceback="T: own")
    failed = replace(EMPTY, learners=learners, failures=(failure,))
    ConsoleObserver(Console(file=stream, width=200)).on_failed_round(failed)
    said = stream.getvalue()
    assert said.count("too bad") == reasons
    assert "a failed in fit_model" in said
    assert "T: own" in said


@pytest.mark.parametrize(
    ("commit", "said"),
    [("a" * 40, "at aaaaaaaaaa,"), ("b" * 40 + "+changes", "at bbbbbbbbbb+changes,")],
)
def test_a_commit_is_shown_with_whether_the_files_differ(commit, said):
    stream = io.StringIO()
    ConsoleObserver(Console(file=stream, width=200)).on_start(replace(RUN, repo_commit=commit), [])
    assert said in stream.getvalue()


@pytest.mark.parametrize(
    ("rounds", "first", "last"),
    [
        (1, "1 round, resumed after round 3: all", "3 (1 "),
        (2, "2 rounds, resumed after round 3: all its rounds are done, ask for more than 3 to go",
         "3 (2 were asked for) in 4.5 s"),
        (3, "3 rounds, resumed after round 3: all its rounds are done", "3 of 3 in 4.5 s"),
        (4, "4 rounds, resumed after round 3\n", "3 of 4 in 4.5 s"),
    ],
)  # fmt: skip
def test_a_resumed_run_says_whether_rounds_are_left(rounds, first, last):
    stream = io.StringIO()
    observer = ConsoleObserver(Console(file=stream, width=200))
    observer.on_start(replace(RUN, rounds=rounds), [record(number) for number in (1, 2, 3)])
    observer.on_end("completed", None)
    assert first in stream.getvalue()
    assert last in stream.getvalue()


def _watch(console, learners=3):
    observer = ConsoleObserver(console)
    names = [f"l{n:04}" for n in range(learners)]
    observer.on_start(RUN, [])
    observer.on_wait(["l0000"], learners)
    observer.on_stage(1, "fit", names)
    for name in names:
        observer.on_answer(1, "fit", name, "broken" if name == "l0001" else None)
    others = [
        replace(FAILURE, learner=f"o{n}", stage="wire", reason=w) for n, w in enumerate("xyz")
    ]
    failures = [*(replace(FAILURE, learner=f"c{n}") for n in range(5)), *others]
    best = Best(round=1, loss=1.0, accuracy=0.5)
    observer.on_round(record(1, failures=failures), best)
    observer.on_round(record(2, failures=failures), best)
    observer.on_end("failed", "why")


@pytest.mark.parametrize("learners", [3, 1000])
def test_a_plain_stream_gets_plain_lines(learners):
    stream = io.StringIO()
    _watch(Console(file=stream, width=100), learners)
    text = stream.getvalue()
    assert "\x1b" not in text
    assert "round 1/3" in text
    assert "accuracy 0.5000" in text
    assert text.count("5 learners (c0, c1, c2 and 2 more) failed in fit_model: broken") == 2
    assert text.count("Trace") == 3  # one a kind of failure
    assert "and 1 more failed" in text
    assert "training failed" in text
    assert text.count("\n") < 30


def test_a_run_that_nobody_evaluates_says_so_once_and_calls_no_round_best():
    stream = io.StringIO()
    observer = ConsoleObserver(Console(file=stream, width=100))
    observer.on_start(RUN, [])
    for number in (1, 2):
        blind = replace(record(number, None, None), not_evaluated="0 of 1 evaluations")
        observer.on_round(blind, None)
    observer.on_end("completed", None)
    text = stream.getvalue()
    assert text.count("not evaluated: 0 of 1 evaluations") == 1
    assert "none: no round was evaluated" in text
    assert "best so far" not in text


def test_a_terminal_gets_a_bar_that_goes_away():
    stream = io.StringIO()
    _watch(Console(file=stream, width=100, force_terminal=True))
    assert "round 1/3 fit" in stream.getvalue()
    assert "training failed" in stream.getvalue()


def test_a_log_says_who_is_awaited_when_a_wait_is_long():
    stream = io.StringIO()
    observer = ConsoleObserver(Console(file=stream, width=200), remind=0.05)
    observer.on_start(RUN, [])
    observer.on_wait(["edge-1"], 2)
    expect = ["1 of 2 learners present (edge-1), since ", " (0 s)"]
    wait_for_words(stream, expect)
    observer.on_stage(2, "fit", [f"l{n}" for n in range(6)])
    observer.on_answer(2, "fit", "l1", None)
    observer.on_answer(2, "fit", "l2", "broken")
    wait_for_words(stream, ["round 2/3 fit: awaiting l0, l3, l4 and 1 more  1 failed, since "])
    observer.on_end("failed", "why")


def test_a_clusters_log_says_when_it_waits_for_its_root_and_has_no_figures():
    stream = io.StringIO()
    observer = ConsoleObserver(Console(file=stream, width=200), remind=0.05)
    observer.on_start(replace(RUN, rounds=0), [])
    observer.on_wait(["l0"], 2)
    wait_for_words(stream, ["1 of 2 learners present (l0), since "])
    observer.on_wait(["l0", "l1"], 2)
    wait_for_words(stream, ["waiting for the root, since "])
    observer.on_stage(1, "fit", ["l0", "l1"])
    wait_for_words(stream, ["round 1 fit: awaiting l0, l1, since "])
    observer.on_answer(1, "fit", "l0", None)
    observer.on_answer(1, "fit", "l1", None)
    observer.on_round(replace(record(1, None, None), not_evaluated="nobody was asked"), None)
    seen = len(stream.getvalue())
    wait_for_words(stream, ["waiting for the root, since "], seen)
    observer.on_end("completed", None)
    said = stream.getvalue()
    assert "round 1     1.50 s  2 learners" in said
    for word in ("loss", "best", "evaluated", " , since"):
        assert word not in said


def wait_for_words(stream, words, after=0):
    end = time.monotonic() + 10
    while not all(word in stream.getvalue()[after:] for word in words):
        assert time.monotonic() < end, stream.getvalue()
        time.sleep(0.01)
