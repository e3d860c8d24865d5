"""What each command does with its options: heavy imports first, then the work itself.

Each function imports what its command needs, while a signal still ends the process at once, and
returns the work.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from shlex import quote
from typing import TYPE_CHECKING, TypeAlias

from flops_fl.errors import UsageError
from flops_fl.process.answer import Answer

if TYPE_CHECKING:
    from flops_fl.options.aggregator import AggregatorOptions
    from flops_fl.options.check import CheckOptions
    from flops_fl.options.data import (
        DataServeOptions,
        DropOptions,
        ListOptions,
        PartitionOptions,
        PutOptions,
        ShowOptions,
    )
    from flops_fl.options.federation import FlowerExportOptions, SimulateOptions
    from flops_fl.options.images import DepsOptions, ImageOptions
    from flops_fl.options.init import InitRepoOptions
    from flops_fl.options.learner import LearnerOptions
    from flops_fl.options.pki import EnrollOptions, InitOptions, RequestOptions, SignOptions
    from flops_fl.options.plan import PlanOptions
    from flops_fl.options.project import ProjectPlanOptions, ProjectRunOptions
    from flops_fl.options.render import RenderOptions
    from flops_fl.options.use import (
        EvaluateOptions,
        ExportOptions,
        ReplayOptions,
        RunOptions,
        ServeOptions,
    )

Work: TypeAlias = Callable[[], int]
"""The work of a command, after its imports; returns the exit code."""


@dataclass(frozen=True, slots=True)
class Call:
    """How a command was called, besides its options."""

    rest: Sequence[str] = ()
    """The arguments after ``--``."""
    answer: Answer = field(default_factory=Answer)


def aggregator(options: AggregatorOptions, call: Call) -> Work:
    from flops_fl.process.libraries import prepare_libraries

    prepare_libraries(threads=1)  # the bits of a norm depend on the number of threads

    from flops_fl.actors.aggregator import aggregate

    return partial(aggregate, options, answer=call.answer)


def learner(options: LearnerOptions, call: Call) -> Work:
    from flops_fl.process.libraries import prepare_libraries

    prepare_libraries(options.threads)

    from flops_fl.actors.learner import learn

    return partial(learn, options)


def simulate(options: SimulateOptions, call: Call) -> Work:
    from flops_fl.process.libraries import prepare_libraries

    prepare_libraries(options.threads)

    from flops_fl.actors import simulation

    return partial(simulation.simulate, options, call.answer)


def run(options: RunOptions, call: Call) -> Work:
    if not call.rest:
        raise UsageError(
            "no program to run: expected one after --, such as flops-fl run REPO --data FOLDER "
            "-- python model_manager.py"
        )

    from flops_fl.use.command import run_program

    return partial(run_program, options, call.rest)


def init(options: InitRepoOptions, call: Call) -> Work:
    from flops_fl.init import command

    return partial(_done, partial(command.init, options, sys.stdout))


def project_render(options: RenderOptions, call: Call) -> Work:
    from flops_fl.project import render

    return partial(_done, partial(render.render, options, sys.stdout))


def check(options: CheckOptions, call: Call) -> Work:
    from flops_fl.process.libraries import prepare_libraries

    prepare_libraries(options.threads)

    from flops_fl.check import command

    return partial(command.check, options, call.answer)


def evaluate(options: EvaluateOptions, call: Call) -> Work:
    from flops_fl.process.libraries import prepare_libraries

    prepare_libraries(options.threads)

    from flops_fl.use import model

    return partial(_done, partial(model.evaluate, options, call.answer))


def replay(options: ReplayOptions, call: Call) -> Work:
    from flops_fl.process.libraries import prepare_libraries

    prepare_libraries(options.threads)

    from flops_fl.use import replay as replaying

    return partial(_done, partial(replaying.replay, options, call.answer))


def export(options: ExportOptions, call: Call) -> Work:
    from flops_fl.use import model

    return partial(_done, partial(model.export, options, call.answer))


def serve(options: ServeOptions, call: Call) -> Work:
    from flops_fl.use import serve as serving

    return partial(_done, partial(serving.serve, options))


def plan(options: PlanOptions, call: Call) -> Work:
    from flops_fl.use import plan as planning

    return partial(_done, partial(planning.plan, options, sys.stdout))


def project_run(options: ProjectRunOptions, call: Call) -> Work:
    from flops_fl.process.libraries import prepare_libraries

    prepare_libraries(options.threads)

    from flops_fl.project import command

    return partial(command.run_project, options, call.answer)


def project_plan(options: ProjectPlanOptions, call: Call) -> Work:
    from flops_fl.project import plan as planning

    return partial(_done, partial(planning.print_plan, options, sys.stdout))


def deps(options: DepsOptions, call: Call) -> Work:
    from flops_fl.process.libraries import prepare_libraries

    prepare_libraries(threads=1)

    from flops_fl.images.deps import propose_dependencies

    return partial(_done, partial(propose_dependencies, options, call.answer))


def image(options: ImageOptions, call: Call) -> Work:
    from flops_fl.images.command import build_images

    return partial(_done, partial(build_images, options, call.answer))


def data_partition(options: PartitionOptions, call: Call) -> Work:
    from flops_fl.data import remote
    from flops_fl.data.command import partition_command

    def work() -> int:
        if options.out is None:
            sys.stdout.writelines(f"{sent.name}\n" for sent in remote.put_parts(options))
            return 0
        where = (options.source, options.parts, options.tag, options.out)
        paths = partition_command(*where, **options.cut())
        sys.stdout.writelines(f"{path}\n" for path in paths)
        return 0

    return work


def data_serve(options: DataServeOptions, call: Call) -> Work:
    from flops_fl.actors import data_server

    return partial(data_server.serve_data, options)


def data_put(options: PutOptions, call: Call) -> Work:
    from flops_fl.data import remote

    def work() -> int:
        sent = remote.put(options.source, options.tag, options)
        sys.stdout.write(f"{sent.name}{'' if sent.added else ': there already'}\n")
        return 0

    return work


def data_ls(options: ListOptions, call: Call) -> Work:
    from flops_fl.data import remote

    answer = call.answer if options.json_ else None
    return partial(_done, partial(remote.ls, options, options.tag, answer))


def data_rm(options: DropOptions, call: Call) -> Work:
    from flops_fl.data import remote

    return partial(_done, partial(remote.rm, options, options.name))


def data_show(options: ShowOptions, call: Call) -> Work:
    from flops_fl.data import remote

    answer = call.answer if options.json_ else None
    return partial(_done, partial(remote.show, options, answer))


def flower_export(options: FlowerExportOptions, call: Call) -> Work:
    from flops_fl.extras import install, is_installed, program
    from flops_fl.flower import export

    def work() -> int:
        for path in export.export(options):
            sys.stderr.write(
                f"warning: Flower does not bundle {path}: it is missing on the nodes\n"
            )
        if not is_installed("ray"):
            sys.stderr.write(
                f"warning: Flower's simulation engine needs Ray: {install('simulation')}\n"
            )
        nodes = f"--federation-config num-supernodes={options.learners}"  # the app's default is 2
        sys.stdout.write(f"{program('flwr')} run {quote(str(options.out))} --stream {nodes}\n")
        return 0

    return work


def pki_init(options: InitOptions, call: Call) -> Work:
    from flops_fl.pki import command

    return partial(command.init, options)


def pki_request(options: RequestOptions, call: Call) -> Work:
    from flops_fl.pki import command

    return partial(command.request, options)


def pki_sign(options: SignOptions, call: Call) -> Work:
    from flops_fl.pki import command

    return partial(command.sign, options)


def pki_enroll(options: EnrollOptions, call: Call) -> Work:
    from flops_fl.pki import command

    return partial(command.enroll, options)


def _done(work: Callable[[], None]) -> int:
    work()
    return 0
