"""Log lines on a terminal."""

import io
import logging

from rich.console import Console
from rich.progress import Progress

from flops_fl.process.lines import OURS, speak


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_a_line_beside_a_bar_has_no_time_as_on_any_terminal(monkeypatch):
    """While rich shows a bar, sys.stderr is rich's own, which says that it is no terminal."""
    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    speak()
    with Progress(console=Console(file=terminal, force_terminal=True)):
        logging.getLogger(OURS).info("beside a bar")
    (line,) = (line for line in terminal.getvalue().splitlines() if "beside a bar" in line)
    assert line.rpartition("\x1b[2K")[2].removesuffix("\x1b[0m").strip() == "beside a bar"
