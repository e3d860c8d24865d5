"""The table of commands."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any

from flops_fl import commands
from flops_fl.commands import Call, Work

if TYPE_CHECKING:
    from flops_fl.options.common import Options
    from flops_fl.options.completion import CompletionOptions


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


def _completion(options: CompletionOptions, call: Call) -> Work:
    from flops_fl.options.completion import Entry, script

    entries = {
        name: Entry(command.line, command.options_class) for name, command in COMMANDS.items()
    }

    def work() -> int:
        sys.stdout.write(script(options.shell, entries))
        return 0

    return work


GROUPS = {
    "": "Train the model of a plain ML repository by federated learning.",
    "data": "What learners train on: prepare it, and serve it.",
    "flower": "Take a repository to Flower's own engines.",
    "project": "FLOps projects, which a file describes: run them here, or elsewhere.",
    "pki": "Make certificates, by which actors know each other.",
}
COMMANDS = {
    "init": Command(
        "NAME --framework F",
        "write a new ML repository",
        "Write a new ML repository, which passes flops-fl check and trains at once. With --data "
        "its model is made for the columns of your data.",
        "init:InitRepoOptions",
        commands.init,
    ),
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
    "serve": Command(
        "RUN|MODEL",
        "a run's model over HTTP",
        "Serve a model by MLflow's scoring protocol: GET /ping, POST /invocations. It is the best "
        "of a run, or any in MLflow.",
        "use:ServeOptions",
        commands.serve,
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
        "REPO|RUN",
        "OCI images of the actors, or of the model",
        "Build the images of a repository's learner and aggregator, or one that serves a run's "
        "best model, without Docker.",
        "images:ImageOptions",
        commands.image,
    ),
    "project run": Command(
        "SLA --data D",
        "a FLOps project from its file to a served model",
        "Train a FLOps project's model with local processes; then do its later steps.",
        "project:ProjectRunOptions",
        commands.project_run,
    ),
    "project plan": Command(
        "SLA --data D",
        "what project run would start, as commands",
        "Print what project run would start, as commands that do the same by hand.",
        "project:ProjectPlanOptions",
        commands.project_plan,
    ),
    "data partition": Command(
        "SOURCE ...",
        "cut a dataset into one part for each learner",
        "Cut a dataset into parts: a folder with one Parquet file for each learner.",
        "data:PartitionOptions",
        commands.data_partition,
    ),
    "data serve": Command(
        "--dir DIR",
        "serve data: devices put them, learners read",
        "Serve a folder by Arrow Flight: devices put data into it, and learners read what has "
        "their tags.",
        "data:DataServeOptions",
        commands.data_serve,
    ),
    "data put": Command(
        "SOURCE --tag TAG ...",
        "put a file or dataset on a data server",
        "Put a Parquet file or a dataset on a data server. The same rows again add nothing.",
        "data:PutOptions",
        commands.data_put,
    ),
    "data ls": Command(
        "--server URL",
        "list what a data server has",
        "List what a data server has: rows, size and name.",
        "data:ListOptions",
        commands.data_ls,
    ),
    "data rm": Command(
        "NAME --server URL",
        "drop data from a data server",
        "Drop data from a data server: those of a name, or all of a tag.",
        "data:DropOptions",
        commands.data_rm,
    ),
    "data show": Command(
        "NAME --server URL",
        "rows, features and labels of data there",
        "Show data on a data server: rows, features, and how often each label occurs.",
        "data:ShowOptions",
        commands.data_show,
    ),
    "flower export": Command(
        "REPO --out DIR",
        "write a Flower app, for flwr run",
        "Write a Flower app around an ML repository, to be started with flwr run.",
        "federation:FlowerExportOptions",
        commands.flower_export,
    ),
    "project render": Command(
        "SLA --for T",
        "write files for an orchestrator",
        "Write the files with which Docker Compose, Kubernetes or Oakestra starts a FLOps project.",
        "render:RenderOptions",
        commands.project_render,
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
