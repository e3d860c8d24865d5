"""``flops-fl project plan``: what a project starts, as commands that do the same by hand."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TextIO

from flops_fl.actors.simulation import cluster_options
from flops_fl.errors import UsageError
from flops_fl.net.address import Address
from flops_fl.options.aggregator import AggregatorOptions
from flops_fl.options.data import PartitionOptions
from flops_fl.options.learner import LearnerOptions
from flops_fl.options.manager import PORT
from flops_fl.options.project import ProjectPlanOptions, ProjectRunOptions
from flops_fl.options.reading import build
from flops_fl.options.told import words
from flops_fl.project import options as asked
from flops_fl.project.sla import Sla, read_sla
from flops_fl.project.team import Team, team_of
from flops_fl.repo.source import Checkout, checkout, is_url
from flops_fl.run.folder import next_folder, shown
from flops_fl.text import counted, numbered, without_secrets

ROOT = Address("127.0.0.1", PORT)
PARTS = "parts"
"""The folder in a run's folder where a dataset's parts are, if it is split by hand."""


@dataclass(frozen=True, slots=True)
class Start:
    """A command of the plan."""

    name: str
    """Of the actor, or the step."""
    text: str
    """What it does."""
    where: str
    """Where it listens, or what it dials, or the folder that it fills."""
    command: list[str]
    """Its words."""
    stays: bool = False
    """Whether others run at the same time."""


def print_plan(options: ProjectPlanOptions, stdout: TextIO) -> None:
    """Print what `project run` would do with these options.

    Raises:
        UsageError: the project's file has mistakes, or the options do not fit to it.
        RepositoryError: the repository's folder has no model_manager.py.
    """
    sla = read_sla(options.sla)
    team = team_of(sla, options)
    if not is_url(sla.ml_repo_url):
        with checkout(sla.ml_repo_url):  # refuses what a run would refuse
            pass
    if options.resume and options.output is None:
        raise UsageError("--resume: say with --output which run the plan goes on with")
    starts = list(plan(sla, team, options, options.listen))
    notes = list(asked.notes(sla))
    if options.json_:
        project = sla.model_dump(mode="json", by_alias=True)
        project["ml_repo_url"] = without_secrets(sla.ml_repo_url)
        found = [asdict(each) | {"command": shlex.join(each.command)} for each in starts]
        document = {"project": project, "notes": notes, "starts": found}
        stdout.write(json.dumps(document, indent=2) + "\n")
    else:
        stdout.writelines(f"{line}\n" for line in script(sla, team, starts))


def script(sla: Sla, team: Team, starts: Sequence[Start]) -> Iterator[str]:
    """The plan as lines of a shell, with what a person wants to know as comments."""
    yield "set -e"  # a step that follows a failed one would work on what is old
    yield f"# {summary(sla, team)}"
    yield from (f"# {note}" for note in asked.notes(sla))
    for before, each, after in zip([None, *starts], starts, [*starts[1:], None], strict=False):
        yield f"\n# {each.name}: {each.text}, {each.where}"
        yield shlex.join(each.command) + (" &" if each.stays else "")
        if each.stays and not (before and before.stays):
            yield "leader=$!"
        if each.stays and not (after and after.stays):
            yield "wait $leader  # whose exit code says how the training ended"
            yield "wait"


def summary(sla: Sla, team: Team) -> str:
    """What a project trains, how long, and with whom."""
    repo = without_secrets(sla.ml_repo_url)
    return f"{repo}: {sla.training.mode}, {_rounds(sla)}, {_members(team)}"


def plan(sla: Sla, team: Team, options: ProjectRunOptions, root: Address = ROOT) -> Iterator[Start]:
    """The commands of a project, in their order.

    Args:
        root: Where the root listens; clusters have the next ports.

    Raises:
        UsageError: the options do not fit to the project.
    """
    whole = asked.federation(sla, team, options)
    repo = sla.ml_repo_url if is_url(sla.ml_repo_url) else str(shown(Path(sla.ml_repo_url)))
    project = options.project_id or Checkout(Path(repo), repo, None).name
    run = options.output or next_folder(project)
    parts = run / PARTS
    for tag, source in team.sources.items():
        values = {"source": source, "parts": len(team.learners), "tag": tag, "out": parts}
        extra = ("partition", "seed", "resize")
        values |= {name: getattr(options, name) for name in options.model_fields_set & {*extra}}
        split = build(PartitionOptions, values)
        text = f"cuts {source} into {counted(len(team.learners), 'part')}"
        command = ["flops-fl", "data", "partition", *words(split)]
        yield Start(tag, text, f"in {shown(parts)}", command)

    changes = {"repo": repo, "listen": root, "output": run, "min_clients": None}
    leading = whole.for_aggregator().model_copy(update=changes)
    yield _aggregator("root" if team.clusters else "aggregator", leading)
    dialled = dict.fromkeys(team.learners, root)
    for number, (name, members) in enumerate(team.clusters.items(), 1):
        address = Address(root.host, root.port + number)
        told = cluster_options(whole, Path(repo), root, sla.training.minimums)
        del told["seed"]
        told["min_available_clients"] = len(members)
        told |= {"repo": repo, "listen": str(address), "learner_id": name}
        told |= {"output": run.with_name(f"{run.name}-{name}")}
        yield _aggregator(name, build(AggregatorOptions, told))
        dialled |= dict.fromkeys(members, address)
    common = {"repo": repo, "threads": options.threads, "insecure": options.insecure}
    for index, name in enumerate(team.learners):
        yield _learner(name, dialled[name], common | _data(team, index, parts))

    if sla.builds_image:
        image = asked.image(sla, options, run)
        where = f"in {shown(run / asked.IMAGES)}"
        yield Start("image", "of the best model", where, ["flops-fl", "image", *words(image)])
    if sla.deploys_image:
        serving = asked.serving(options, run)
        command = ["flops-fl", "serve", *words(serving)]
        yield Start("server", "of the best model, until Ctrl-C", f"at {options.serve}", command)


def _aggregator(name: str, options: AggregatorOptions) -> Start:
    at = f"at {options.listen}" + (f", learner of {options.root}" if options.root else "")
    text = f"waits for {options.min_available_clients}, leads {counted(options.rounds, 'round')}"
    return Start(name, text, at, ["flops-fl", "aggregator", *words(options)], stays=True)


def _learner(name: str, at: Address, values: Mapping[str, Any]) -> Start:
    told = build(LearnerOptions, {"learner_id": name, "aggregator": str(at), **values})
    text = f"trains on {values.get('data', 'the data of the repository')}"
    return Start(name, text, f"dials {at}", ["flops-fl", "learner", *words(told)], stays=True)


def _data(team: Team, index: int, parts: Path) -> dict[str, Any]:
    """A learner's data, with those that are split where the plan's commands leave them."""
    if not team.sources:
        return team.data_of(index)
    part = numbered("part-", len(team.learners))[index]  # as `data partition` names it
    return {"data": str(parts / part), "data_tags": list(team.tags)}


def _rounds(sla: Sla) -> str:
    rounds = counted(sla.training.training_rounds, "round")
    if not sla.training.hierarchical:
        return rounds
    return f"{counted(sla.training.training_cycles, 'cycle')} of {rounds}"


def _members(team: Team) -> str:
    said = counted(len(team.learners), "learner")
    return f"{said} in {counted(len(team.clusters), 'cluster')}" if team.clusters else said
