"""`make screenshots`: what a terminal of 80 or 120 columns shows, as SVG in docs/images."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import shlex
import struct
import subprocess
import sys
import tempfile
import termios
from pathlib import Path

from rich.console import Console
from rich.text import Text

ROOT = Path(__file__).parents[2]
IMAGES = ROOT / "docs" / "images"
RUN = f"flops-fl simulate {ROOT}/examples/numpy_minimal --learners 5 --rounds 5 --no-tracking"
SHOWN = {
    "help-80": ("flops-fl --help", 80),
    "learner-help-80": ("flops-fl learner --help", 80),
    "run-80": (RUN, 80),
    "run-120": (RUN, 120),
}
_CONTROL = re.compile(r"\x1b\[(\??[\d;]*)([A-Za-z])|([\r\n])")


def typed(command: str, columns: int) -> str:
    """What a command writes to a terminal, raw."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 60, columns, 0, 0))
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    hidden = ("COLUMNS", "LINES", "NO_COLOR")
    env = {name: value for name, value in os.environ.items() if name not in hidden}
    with tempfile.TemporaryDirectory() as folder:
        process = subprocess.Popen(
            shlex.split(command),
            cwd=folder,
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            env={**env, "PATH": path, "TERM": "xterm-256color", "PYTHONPATH": str(ROOT)},
        )
        os.close(theirs)
        written = b""
        try:
            while some := os.read(ours, 1 << 16):
                written += some
        except OSError:  # the other end is closed
            pass
        os.close(ours)
        process.wait()
    return written.decode()


def screen(written: str) -> str:
    """The lines that stand there at the end, with their colours: bars that were erased are gone."""
    lines, row = [""], 0
    position = 0
    for found in [*_CONTROL.finditer(written), None]:
        end = found.start() if found else len(written)
        lines[row] += written[position:end]
        if found is None:
            break
        position = found.end()
        numbers, letter, end_of_line = found.groups()
        if end_of_line == "\n":
            row += 1
            lines += [""] * (row + 1 - len(lines))
        elif letter == "A":
            row = max(0, row - int(numbers or 1))
        elif letter == "K":
            lines[row] = ""
        elif letter == "m":
            lines[row] += found.group()
    return "\n".join(lines).rstrip()


def main() -> None:
    """Write all pictures."""
    for name, (command, columns) in SHOWN.items():
        shown = command.replace(f"{ROOT}/", "")
        console = Console(record=True, width=columns, file=open(os.devnull, "w"))  # noqa: SIM115
        text = screen(typed(command, columns)).replace(f"{ROOT}/", "")
        console.print(Text(f"$ {shown}"))
        console.print(Text.from_ansi(text))
        console.print()  # rich's picture cuts off what is below the last line's letters
        picture = console.export_svg(title=f"{columns} columns", unique_id=name)
        # A font is fetched from nowhere: the reader's own, of a fixed width, is good enough.
        picture = re.sub(r"@font-face \{.*?\}\s*", "", picture, flags=re.S)
        (IMAGES / f"{name}.svg").write_text(picture)


if __name__ == "__main__":
    main()
