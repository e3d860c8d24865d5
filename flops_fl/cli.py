"""``flops-fl``: how a command is found, explained and run."""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from flops_fl.commands import Call
from flops_fl.errors import UsageError
from flops_fl.process.answer import Answer
from flops_fl.process.main import run_main
from flops_fl.process.signals import ending_at_once
from flops_fl.table import COMMANDS, GROUPS

log = logging.getLogger(__name__)

PROG = "flops-fl"
LINES = 32  # the column in which a list says what commands do


def main(prog: str = PROG, module: str = "") -> None:
    """Run ``flops-fl`` under the name `prog`; or, as ``python -m`` does, the command `module`."""
    answer = Answer()
    work = partial(_module, module) if module else partial(run, sys.argv[1:], prog)
    sys.exit(run_main(lambda: work(answer=answer), answer))


def run(argv: Sequence[str], prog: str = PROG, answer: Answer | None = None) -> int:
    """Run one command, or list the commands; returns the exit code.

    Raises:
        UsageError: there is no such command, or its options are wrong.
        SystemExit: 0, after a command's help.
    """
    with ending_at_once():
        from flops_fl.options.reading import HELP, print_version

    answer = answer or Answer()
    answer.as_json = "--json" in argv
    said = [*argv[1:], "--help"] if argv[:1] == ["help"] else list(argv)
    name = ""  # the part read so far of a command's name, or a group of commands
    while said and _named(longer := f"{name} {said[0]}".strip()):
        name, said = longer, said[1:]
        if name in COMMANDS:
            return _command(name, f"{prog} {name}", said, answer=answer)
    called = f"{prog} {name}".strip()
    if said[:1] == ["--version"]:
        print_version()
    elif said and said[0] not in HELP:
        raise _no_command(name, said[0], called)
    else:
        sys.stdout.write(_list(name, called))
    return 0


def _command(name: str, prog: str, argv: Sequence[str], *, answer: Answer) -> int:
    command = COMMANDS[name]
    with ending_at_once():
        from flops_fl.options.reading import asks_for_json, parse

        cls = command.options_class
        cut = argv.index("--") if cls.rest and "--" in argv else len(argv)
        answer.as_json = asks_for_json(cls, argv[:cut])
        options = parse(cls, prog, command.description, argv[:cut])
        work = command.start(options, Call(argv[cut + 1 :], answer))
    return work()


def _module(name: str, answer: Answer) -> int:
    """Run a command called as ``python -m aggregator`` or ``python -m learner``."""
    for path in hidden_by(Path()):
        log.warning(
            "%s hides python -m %s in this folder: flops-fl %s does the same",
            path, path.parts[0].removesuffix(".py"), path.parts[0].removesuffix(".py"),
        )  # fmt: skip
    return _command(name, f"python -m {name}", sys.argv[1:], answer=answer)


def hidden_by(folder: Path) -> list[Path]:
    """Files that ``python -m`` in `folder` would run instead of our modules."""
    if sys.flags.safe_path:
        return []
    ours, names = Path(__file__).parent.parent, ("aggregator", "learner")
    found = [Path(name, "__init__.py") for name in names] + [Path(f"{name}.py") for name in names]
    return [
        path
        for path in found
        if (folder / path).is_file() and (folder / path).resolve() != (ours / path).resolve()
    ]


def _named(name: str) -> list[str]:
    """The command with this name, or the commands of the group with this name."""
    return [known for known in COMMANDS if f"{known} ".startswith(f"{name} " if name else "")]


def _no_command(name: str, word: str, called: str) -> UsageError:
    from flops_fl.options.reading import similar

    if word.startswith("-"):
        return UsageError(f"{called} {word}: expected a command first. See {called} --help")
    said, known = f"{name} {word}".strip(), _named(name)
    guess = similar(said, known) or similar(said, [entry.split()[0] for entry in known])
    expected = guess or f": expected {', '.join(known)}"
    return UsageError(f"no command {said!r}{expected}. See {called} --help")


def _list(name: str, called: str) -> str:
    """The help text of a group: its commands, one a line."""
    rows = [(f"  {known} {COMMANDS[known].usage}", COMMANDS[known].line) for known in _named(name)]
    lines = [f"usage: {called} COMMAND ...", "", GROUPS[name], "", "commands:"]
    lines += [f"{left:<{LINES}}{line}" for left, line in rows]
    return "\n".join([*lines, "", "Add --help to a command for its options.", ""])
