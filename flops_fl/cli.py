"""``flops-fl``: simulate a federation, prepare data, write a Flower app, make certificates."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from shlex import quote

from flops_fl.errors import UsageError
from flops_fl.process.main import run_main
from flops_fl.process.signals import ending_at_once

USAGE = """usage: flops-fl COMMAND ...

Train the model of a plain ML repository by federated learning.

commands:
  simulate REPO --learners N    a whole federation on this machine
  run REPO --data D -- PROGRAM  your own program, with a learner's data
  evaluate RUN --data D         a run's model on any data
  export RUN --out FILE         a run's model, in its framework's own format
  plan --learners N ...         would clusters pay? a round's time and traffic
  data partition SOURCE ...     cut a dataset into one part for each learner
  flower export REPO --out DIR  write a Flower app, for flwr run

  pki init                      make an authority, which signs whom you let in
  pki request NAME --role ROLE  make a key, and a request to sign it
  pki sign NAME.csr ...         sign a request: a certificate for TLS
  pki enroll NAME --role ROLE   all three at once, on one machine

  python -m aggregator REPO     lead the rounds, on the root node
  python -m learner REPO ...    train, in an edge container

Add --help to a command for its options.
"""


def main() -> None:
    """Entry point of the ``flops-fl`` command."""
    sys.exit(run_main(lambda: run(sys.argv[1:])))


def run(argv: Sequence[str]) -> int:
    """Run one command; returns its exit code.

    Raises:
        UsageError: there is no such command, or its options are wrong.
    """
    if argv and argv[0] in ("-h", "--help", "help"):
        sys.stdout.write(USAGE)
        return 0
    if argv and argv[0] == "--version":
        from flops_fl import __version__

        sys.stdout.write(f"flops-fl {__version__}\n")
        return 0
    for words, command in _COMMANDS.items():
        if tuple(argv[: len(words)]) == words:
            return command(argv[len(words) :])
    from flops_fl.options.reading import similar

    said, known = " ".join(argv[:2]), [" ".join(words) for words in _COMMANDS]
    guess = similar(said, known) or similar("".join(argv[:1]), known)
    raise UsageError(
        f"no command {said!r}{guess or ': expected ' + ', '.join(known)}. See flops-fl --help"
    )


def _simulate(argv: Sequence[str]) -> int:
    description = "Run a whole federation on this machine, with the same code as a real one."
    with ending_at_once():
        from flops_fl.options.federation import SimulateOptions
        from flops_fl.options.reading import parse
        from flops_fl.process.libraries import prepare_libraries

        options = parse(SimulateOptions, "flops-fl simulate", description, argv)
        prepare_libraries(options.threads)

        from flops_fl.actors.simulation import simulate

    return simulate(options)


def _run(argv: Sequence[str]) -> int:
    description = (
        "Run the program after --, such as flops-fl run REPO --data FOLDER -- python "
        "model_manager.py, in the repository: load_dataset() gives it the data of a learner."
    )
    with ending_at_once():
        from flops_fl.options.reading import parse
        from flops_fl.options.use import RunOptions

        cut = argv.index("--") if "--" in argv else len(argv)
        options = parse(RunOptions, "flops-fl run", description, argv[:cut])
        if not argv[cut + 1 :]:
            raise UsageError(
                "no program to run: expected one after --, such as flops-fl run REPO --data FOLDER "
                "-- python model_manager.py"
            )

        from flops_fl.use.command import run_program

    return run_program(options, argv[cut + 1 :])


def _evaluate(argv: Sequence[str]) -> int:
    description = "Evaluate the model that a run has left, on any data, as a learner would."
    with ending_at_once():
        from flops_fl.options.reading import parse
        from flops_fl.options.use import EvaluateOptions
        from flops_fl.process.libraries import prepare_libraries

        options = parse(EvaluateOptions, "flops-fl evaluate", description, argv)
        prepare_libraries(options.threads)

        from flops_fl.process.prints import stdout_kept
        from flops_fl.use.model import evaluate

    with stdout_kept(wanted=True) as stdout:
        assert stdout is not None
        evaluate(options, stdout)
    return 0


def _export(argv: Sequence[str]) -> int:
    description = (
        "Write the model that a run has left in its framework's own format, and print the lines "
        "of Python that load it."
    )
    with ending_at_once():
        from flops_fl.options.reading import parse
        from flops_fl.options.use import ExportOptions

        options = parse(ExportOptions, "flops-fl export", description, argv)

        from flops_fl.process.prints import stdout_kept
        from flops_fl.use.model import export

    with stdout_kept(wanted=True) as stdout:
        assert stdout is not None
        export(options, stdout)
    return 0


def _plan(argv: Sequence[str]) -> int:
    description = (
        "Reckon what a round takes and what crosses the root's link, without clusters and with."
    )
    with ending_at_once():
        from flops_fl.options.plan import PlanOptions
        from flops_fl.options.reading import parse

        options = parse(PlanOptions, "flops-fl plan", description, argv)

        from flops_fl.use.plan import plan

    plan(options, sys.stdout)
    return 0


def _partition(argv: Sequence[str]) -> int:
    description = "Cut a dataset into parts: a folder with one Parquet file for each learner."
    with ending_at_once():
        from flops_fl.options.data import PartitionOptions
        from flops_fl.options.reading import parse

        options = parse(PartitionOptions, "flops-fl data partition", description, argv)

        from flops_fl.data.command import partition_command

    paths = partition_command(
        options.source,
        options.parts,
        options.tag,
        options.out,
        scheme=options.partition,
        seed=options.seed,
        resize=options.resize,
    )
    for path in paths:
        sys.stdout.write(f"{path}\n")
    return 0


def _flower_export(argv: Sequence[str]) -> int:
    description = "Write a Flower app around an ML repository, to be started with flwr run."
    with ending_at_once():
        from flops_fl.options.federation import FlowerExportOptions
        from flops_fl.options.reading import parse

        options = parse(FlowerExportOptions, "flops-fl flower export", description, argv)

        from flops_fl.extras import install, is_installed, program
        from flops_fl.flower.export import export

    for path in export(options):
        sys.stderr.write(f"warning: Flower does not bundle {path}: it is missing on the nodes\n")
    if not is_installed("ray"):
        sys.stderr.write(
            f"warning: Flower's simulation engine needs Ray: {install('simulation')}\n"
        )
    nodes = f"--federation-config num-supernodes={options.learners}"  # of the simulation: 2, else
    sys.stdout.write(f"{program('flwr')} run {quote(str(options.out))} --stream {nodes}\n")
    return 0


def _pki_init(argv: Sequence[str]) -> int:
    description = "Make an authority: the key that signs the certificates of a federation."
    with ending_at_once():
        from flops_fl.options.pki import InitOptions
        from flops_fl.options.reading import parse

        options = parse(InitOptions, "flops-fl pki init", description, argv)

        from flops_fl.pki.command import init

    return init(options)


def _pki_request(argv: Sequence[str]) -> int:
    description = "Make a private key, which stays here, and a request for an authority to sign."
    with ending_at_once():
        from flops_fl.options.pki import RequestOptions
        from flops_fl.options.reading import parse

        options = parse(RequestOptions, "flops-fl pki request", description, argv)

        from flops_fl.pki.command import request

    return request(options)


def _pki_sign(argv: Sequence[str]) -> int:
    description = "Sign a request: say whom you let in, and it is signed if it asks for no more."
    with ending_at_once():
        from flops_fl.options.pki import SignOptions
        from flops_fl.options.reading import parse

        options = parse(SignOptions, "flops-fl pki sign", description, argv)

        from flops_fl.pki.command import sign

    return sign(options)


def _pki_enroll(argv: Sequence[str]) -> int:
    description = (
        "Make a key and its certificate on one machine, and an authority if there is none."
    )
    with ending_at_once():
        from flops_fl.options.pki import EnrollOptions
        from flops_fl.options.reading import parse

        options = parse(EnrollOptions, "flops-fl pki enroll", description, argv)

        from flops_fl.pki.command import enroll

    return enroll(options)


_COMMANDS: dict[tuple[str, ...], Callable[[Sequence[str]], int]] = {
    ("simulate",): _simulate,
    ("run",): _run,
    ("evaluate",): _evaluate,
    ("export",): _export,
    ("plan",): _plan,
    ("data", "partition"): _partition,
    ("flower", "export"): _flower_export,
    ("pki", "init"): _pki_init,
    ("pki", "request"): _pki_request,
    ("pki", "sign"): _pki_sign,
    ("pki", "enroll"): _pki_enroll,
}
