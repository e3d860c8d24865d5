"""``flops-fl``: the table of commands, and how a command is found, explained and run."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flops_fl import commands
from flops_fl.commands import Call, Work
from flops_fl.errors import UsageError
from flops_fl.process.answer import Answer
from flops_fl.process.main import run_main
from flops_fl.process.signals import ending_at_once

if TYPE_CHECKING:
    from flops_fl.options.common import Options
    from flops_fl.options.completion import CompletionOptions

log = logging.getLogger(__name__)

PROG = "flops-fl"


@dataclass(frozen=True, slots=True)
class Command:
    """A command: its texts in lists and in help, its options, and where its work is done."""

    usage: str
    """The arguments shown after its name in a list of commands."""
    line: str
    """What the command does, for a list of commands."""
    description: str
    """What the command does, for the head of its help."""
    options: str
    """The class of its options, as ``module:Class`` in ``flops_fl.options``."""
    start: Callable[[Any, Call], Work]

    @property
    def options_class(self) -> type[Options]:
        """The class of its options, imported."""
        module, _, name = self.options.partition(":")
        found: type[Options] = getattr(import_module(f"flops_fl.options.{module}"), name)
        return found


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


def _completion(options: CompletionOptions, call: Call) -> Work:
    from flops_fl.options.completion import Entry, script

    entries = {
        name: Entry(command.line, command.options_class) for name, command in COMMANDS.items()
    }

    def work() -> int:
        sys.stdout.write(script(options.shell, entries))
        return 0

    return work


LINES = 32  # the column in which a list says what commands do
GROUPS = {
    "": "Train the model of a plain ML repository by federated learning.",
    "data": "Prepare what learners train on.",
    "flower": "Take a repository to Flower's own engines.",
    "pki": "Make certificates, by which actors know each other.",
}
COMMANDS = {
    "check": Command(
        "REPO",
        "find the mistakes in an ML repository",
        "Check an ML repository: its files, its dependencies, its model, and with --data a fit and "
        "an evaluation. Each mistake has its file, its line and a remedy.",
        "check:CheckOptions",
        commands.check,
    ),
    "simulate": Command(
        "REPO --learners N",
        "a whole federation on this machine",
        "Run a whole federation on this machine, with the same code as a real one.",
        "federation:SimulateOptions",
        commands.simulate,
    ),
    "aggregator": Command(
        "REPO",
        "lead the rounds, on the root node",
        "Lead the federated training of an ML repository's model; also python -m aggregator.",
        "aggregator:AggregatorOptions",
        commands.aggregator,
    ),
    "learner": Command(
        "REPO --aggregator A",
        "train, in an edge container",
        "Train the model of an ML repository on local data; also python -m learner.",
        "learner:LearnerOptions",
        commands.learner,
    ),
    "run": Command(
        "REPO --data D -- PROGRAM",
        "your own program, with a learner's data",
        "Run the program after --, such as flops-fl run REPO --data FOLDER -- python "
        "model_manager.py, in the repository: load_dataset() gives it the data of a learner.",
        "use:RunOptions",
        commands.run,
    ),
    "evaluate": Command(
        "RUN --data D",
        "a run's model on any data",
        "Evaluate the model that a run has left, on any data, as a learner would.",
        "use:EvaluateOptions",
        commands.evaluate,
    ),
    "export": Command(
        "RUN --out FILE",
        "a run's model, in its framework's own format",
        "Write the model that a run has left in its framework's own format, and print the lines "
        "of Python that load it.",
        "use:ExportOptions",
        commands.export,
    ),
    "replay": Command(
        "RUN --round R ...",
        "a learner's past fit or failure once more",
        "Execute what a learner did in a past round again, here: from the round's checkpoint, the "
        "seed and the learner's data, under the debugger if you like.",
        "use:ReplayOptions",
        commands.replay,
    ),
    "plan": Command(
        "--learners N ...",
        "would clusters pay? a round's time and traffic",
        "Reckon what a round takes and what crosses the root's link, without clusters and with.",
        "plan:PlanOptions",
        commands.plan,
    ),
    "deps": Command(
        "REPO",
        "which packages it should list, and why",
        "Find which packages a repository needs, and versions of them that fit together.",
        "images:DepsOptions",
        commands.deps,
    ),
    "image": Command(
        "REPO",
        "OCI images of learner and aggregator",
        "Build the images of a repository's learner and aggregator, without Docker.",
        "images:ImageOptions",
        commands.image,
    ),
    "data partition": Command(
        "SOURCE ...",
        "cut a dataset into one part for each learner",
        "Cut a dataset into parts: a folder with one Parquet file for each learner.",
        "data:PartitionOptions",
        commands.data_partition,
    ),
    "flower export": Command(
        "REPO --out DIR",
        "write a Flower app, for flwr run",
        "Write a Flower app around an ML repository, to be started with flwr run.",
        "federation:FlowerExportOptions",
        commands.flower_export,
    ),
    "pki init": Command(
        "",
        "make an authority, which signs whom you let in",
        "Make an authority: the key that signs the certificates of a federation.",
        "pki:InitOptions",
        commands.pki_init,
    ),
    "pki request": Command(
        "NAME --role ROLE",
        "make a key, and a request to sign it",
        "Make a private key, which stays here, and a request for an authority to sign.",
        "pki:RequestOptions",
        commands.pki_request,
    ),
    "pki sign": Command(
        "NAME.csr ...",
        "sign a request: a certificate for TLS",
        "Sign a request: say whom you let in, and it is signed if it asks for no more.",
        "pki:SignOptions",
        commands.pki_sign,
    ),
    "pki enroll": Command(
        "NAME --role ROLE",
        "all three at once, on one machine",
        "Make a key and its certificate on one machine, and an authority if there is none.",
        "pki:EnrollOptions",
        commands.pki_enroll,
    ),
    "completion": Command(
        "SHELL",
        "let bash, zsh or fish complete all this",
        "Print a script that lets a shell complete commands and options. For bash, put "
        "'source <(flops-fl completion bash)' into ~/.bashrc.",
        "completion:CompletionOptions",
        _completion,
    ),
}
