"""The console names learners that join, but does not print a line each for thousands."""

import io
import time
from dataclasses import replace

import pytest
from rich.console import Console

from flops_fl.observers import presence as module
from flops_fl.observers.console import ConsoleObserver
from flops_fl.observers.presence import Presence
from flops_fl.types import LearnerFailure, RoundRecord
from tests.conftest import wait_until

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
