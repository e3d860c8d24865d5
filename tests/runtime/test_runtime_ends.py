"""How processes end: done, failed, interrupted at any moment; a last line, and no traceback."""

import json
import os
import pty
import signal
import subprocess
import sys
from contextlib import suppress

import pytest

from tests.conftest import LIMIT, NUMPY, ROOT, unstamped, wait_until

RAW = ("Traceback", "Exception ignored", "Exception in thread", "KeyboardInterrupt")
EARLY = "interrupted before its first round was done: start it again, or go on with --resume"


def start(folder, *command, env=None, **more):
    """A process with a group of its own, as a shell gives it to a command."""
    return subprocess.Popen(
        [sys.executable, "-m", *map(str, command)],
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=more.pop("stdout", subprocess.PIPE),
        stderr=more.pop("stderr", subprocess.PIPE),
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT), **(env or {})},
        start_new_session=True,
        **more,
    )


def simulate(repo, *options):
    return ("flops_fl", "simulate", repo, "--no-tracking", *options)


def said(process):
    """What it said on stderr, once it and all that it started have gone."""
    _, text = process.communicate(timeout=LIMIT)
    for raw in RAW:
        assert raw not in text, text
    return text


def press_ctrl_c(process):
    os.killpg(process.pid, signal.SIGINT)


@pytest.mark.slow
def test_a_finished_simulation_resumed_says_so_once(tmp_path):
    command = simulate(NUMPY, "--learners", 2, "--rounds", 1)
    first = start(tmp_path, *command)
    assert "training completed" in said(first)
    again = start(tmp_path, *command, "--resume")
    text = said(again)
    assert again.returncode == 0
    assert text.count("training completed") == 1
    assert "interrupted" not in text


def test_an_interrupted_simulation_has_a_last_line_and_leaves_nobody(tmp_path, slow_repo):
    env = {"MARK": str(tmp_path / "mark"), "FIT_SECONDS": "600"}
    process = start(tmp_path, *simulate(slow_repo, "--learners", 3), env=env)
    wait_until(lambda: list(tmp_path.glob("mark-fit-*")), LIMIT)
    press_ctrl_c(process)
    text = said(process)  # its end is that of the learners, too: they share its stderr
    assert process.returncode == 130, text
    lines = [line for line in text.splitlines() if "interrupted" in line.replace(str(tmp_path), "")]
    assert lines == text.splitlines()[-1:]
    assert [unstamped(line) for line in lines] == [EARLY]
    assert lines != [EARLY]  # in a log each line has the time


TWICE = """
import runpy, signal
from flops_fl.actors import lead
from flops_fl.observers.console import ConsoleObserver

def pressed(function):
    def press(*arguments, **options):
        signal.raise_signal(signal.SIGINT)
        return function(*arguments, **options)
    return press

ConsoleObserver.on_round = pressed(ConsoleObserver.on_round)
lead.leave = pressed(lead.leave)
runpy.run_module("flops_fl", run_name="__main__")
"""


@pytest.mark.slow
def test_a_second_signal_finds_the_result_on_disk(tmp_path):
    script = tmp_path / "twice.py"
    script.write_text(TWICE)
    command = simulate(NUMPY, "--learners", 2, "--rounds", 9)[1:]
    process = subprocess.run(
        [sys.executable, script, *map(str, command)],
        cwd=tmp_path, capture_output=True, text=True, timeout=LIMIT, check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert process.returncode == 130, process.stderr
    (result,) = tmp_path.glob("runs/*/result.json")
    assert json.loads(result.read_text())["status"] == "interrupted"
    assert process.stderr.rstrip().endswith("interrupted: go on with --resume")


@pytest.mark.slow
def test_a_failed_simulation_ends_with_its_reason(tmp_path, slow_repo):
    (tmp_path / "mark-break").touch()
    env = {"MARK": str(tmp_path / "mark")}
    process = start(tmp_path, *simulate(slow_repo, "--learners", 3), env=env)
    _, text = process.communicate(timeout=LIMIT)
    assert process.returncode == 4
    assert "error: " in text.splitlines()[-1]
    for raw in ("Exception ignored", "Exception in thread", "KeyboardInterrupt", "interrupted"):
        assert raw not in text, text


COMMANDS = {
    "simulate": simulate(NUMPY, "--learners", 2, "--rounds", 10**6),
    "aggregator": ("aggregator", NUMPY, "--no-tracking", "--listen", "127.0.0.1:0"),
    "learner": ("learner", NUMPY, "--aggregator", "127.0.0.1:9", "--data", "none-there"),
}


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("command", COMMANDS)
def test_interrupted_at_any_moment_of_its_start_it_is_only_said(tmp_path, command, number):
    """After so many imports, from the first of our own on: Python's own start is not ours."""
    for imports in (5, 20, 100, 250, 450, 700, 1000, 1400, 1900, 2500):
        process = start(tmp_path, *COMMANDS[command], env={"PYTHONPROFILEIMPORTTIME": "1"})
        left, own = imports, False
        for line in process.stderr:
            if not line.startswith("import time:"):
                break  # all that are imported at the start
            own = own or line.endswith("flops_fl.process.main\n")
            left -= own
            if left < 0:
                break
        process.send_signal(number)
        text = said(process)
        lines = [x for x in [line, *text.splitlines()] if not x.startswith("import time:")]
        if command == "learner" and process.returncode == 2:
            assert "none-there" in lines[-1]  # it was quicker
            continue
        assert process.returncode == 130, (imports, lines)
        assert unstamped(lines[-1]) in ("interrupted", "interrupted: go on with --resume", EARLY)
    assert {path.name for path in tmp_path.iterdir()} <= {"runs"}


@pytest.mark.slow
def test_on_a_terminal_too(tmp_path, slow_repo):
    env = {"MARK": str(tmp_path / "mark"), "FIT_SECONDS": "600", "TERM": "xterm"}
    terminal, other = pty.openpty()
    process = start(tmp_path, *simulate(slow_repo, "--learners", 2), env=env, stderr=other)
    os.close(other)
    wait_until(lambda: list(tmp_path.glob("mark-fit-*")), LIMIT)
    press_ctrl_c(process)
    shown = b""
    with suppress(OSError):  # EIO: nobody has it open any more
        while piece := os.read(terminal, 1 << 16):
            shown += piece
    os.close(terminal)
    process.communicate(timeout=LIMIT)
    text = shown.decode()
    assert process.returncode == 130
    assert not [raw for raw in RAW if raw in text], text
    assert text.rindex("\x1b[?25h") > text.rindex("\x1b[?25l")  # the cursor is back
    assert text.rstrip().endswith(EARLY)
