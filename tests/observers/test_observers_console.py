"""What the console says of those who come: by name, and never a line each for thousands."""

import io

from rich.console import Console

from flops_fl.observers import console as module
from flops_fl.observers.console import ConsoleObserver

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
