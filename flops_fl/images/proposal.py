"""Which packages a repository should list, each with the reason why."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from packaging.utils import canonicalize_name

from flops_fl.images.lock import Pin
from flops_fl.images.needs import MLFLOW, Dropped, Needs, kept
from flops_fl.repo.dependencies import misnamed
from flops_fl.repo.environment import NAMES, Entry, Environment, read_environment
from flops_fl.repo.imports import (
    COMPANIONS,
    CONTRACT,
    Import,
    distributions_of,
    packages_imported,
    unlisted,
    unused,
)
from flops_fl.repo.runtime import against

CHANNELS = ("conda-forge",)
"""Where conda finds Python and pip, if a repository says nothing else."""
AS_LISTED = "as you list it"
FROM_PYPI = frozenset({"defaults", "conda-forge", "nodefaults"})


@dataclass(frozen=True, slots=True)
class Line:
    """A line of the proposed list."""

    text: str
    why: str
    """Empty until it is known which package needs it."""
    is_new: bool = False


@dataclass(frozen=True, slots=True)
class Proposal:
    """What a dependency file should say."""

    file: str
    name: str
    channels: Sequence[str]
    python: str
    lines: Sequence[Line]
    removed: Sequence[Dropped]
    """What is listed and needed by nothing."""
    dropped: Sequence[Dropped]
    """What is listed and cannot be had."""
    notes: Sequence[str]

    @property
    def needs(self) -> Needs:
        """What is to be resolved for it."""
        return Needs.of(self.file, [line.text for line in self.lines], self.dropped)

    def pinned(self, pins: Sequence[Pin]) -> Proposal:
        """The same with versions for what is new, and with what needs each of the others."""
        found, listed = {pin.name: pin for pin in pins}, self.needs.names
        lines = []
        for line in self.lines:
            pin = found.get(canonicalize_name(re.split(r"[^\w.-]", line.text, maxsplit=1)[0]))
            if pin and line.is_new:
                line = replace(line, text=pin.spec)  # noqa: PLW2901
            elif not line.why:
                via = pin.via if pin else ()
                by = ", ".join(sorted(set(via) & listed) or via[:1])
                line = replace(line, why=f"needed by {by}" if by else AS_LISTED)  # noqa: PLW2901
            lines.append(line)
        return replace(self, lines=lines)

    def text(self) -> str:
        """The dependency file."""
        out = [f"name: {self.name}", "channels:", *(f"  - {each}" for each in self.channels)]
        out.append("dependencies:")
        out += [f"  - python={self.python}", "  - pip"]
        out += ["  - pip:"] if self.lines else []
        width = max((len(line.text) for line in self.lines), default=0)
        out += [f"      - {line.text:<{width}}  # {line.why}" for line in self.lines]
        return "\n".join([*out, ""])


def propose(folder: Path, name: str, python: str) -> Proposal:
    """Compare what a repository lists with what its code imports.

    Args:
        name: The environment's, if there is no dependency file yet.

    Raises:
        RepositoryError: a file cannot be read, or a dependency is built from source.
    """
    environment = read_environment(folder)
    imports = [each for each in packages_imported(folder) if each.module not in CONTRACT]
    notes = []
    if environment is None:
        environment = Environment(folder / NAMES[0], (), (), name)
        notes += [said for said in misnamed(folder)[1:] if said]
    tracked = bool(MLFLOW & {each.module for each in imports})
    idle = unused(imports, environment.entries)
    lines, removed, dropped = [], [], []
    for entry in environment.entries:
        text, why = kept(entry, environment, python, tracked=tracked)
        if entry in idle:
            why = "nothing that the code imports needs it"
            removed.append(Dropped(entry.text, entry.line, why))
            continue
        if instead := _in_range(entry, text):
            text, why = instead
        if why:
            dropped.append(Dropped(entry.text, entry.line, why))
        if text:
            lines.append(Line(text, _reason(entry, imports)))
    lines += [
        Line(each.distribution, _imported(each.found), is_new=True)
        for each in unlisted(imports, environment.entries)
    ]
    notes += _about_channels(environment)
    return Proposal(
        environment.file.name, environment.name or name, environment.channels or CHANNELS, python,
        lines, removed, dropped, notes,
    )  # fmt: skip


def beyond(inferred: Iterable[str], proposal: Proposal, pins: Sequence[Pin]) -> Mapping[str, str]:
    """What MLflow finds and the proposal does not list, each with the reason why not."""
    listed, there = proposal.needs.names, {pin.name: pin for pin in pins}
    found = {}
    for text in inferred:
        name = canonicalize_name(text.partition("==")[0].partition("[")[0])
        if name not in listed:
            via = there[name].via if name in there else ()
            found[text] = (
                f"comes with {', '.join(via[:2])}" if via else "the code imports it nowhere"
            )
    return found


def _in_range(entry: Entry, text: str) -> tuple[str, str] | None:
    """The versions that the runtime leaves of a package, and why it is not those of the entry.

    Args:
        text: What stays of the entry so far; its versions are gone if the runtime chooses them.
    """
    requirement = entry.requirement
    if not (requirement and text == entry.pip):
        return None
    need = against(entry.name, requirement.specifier)
    if need is None:
        return None
    requirement.specifier = need.versions
    return str(requirement), f"{need}, so {requirement} is proposed"


def _reason(entry: Entry, imports: Sequence[Import]) -> str:
    for each in imports:
        if entry.name in distributions_of(each.module):
            return _imported(each)
    for each in imports:
        if any(entry.name in COMPANIONS.get(name, ()) for name in distributions_of(each.module)):
            return f"{_imported(each)}, which can use it"
    if entry.name in COMPANIONS["flops-utils"]:
        return "load_dataset can use it"
    if entry.name == "flops-utils":
        return "the contract's classes are in it"
    return AS_LISTED if entry.requirement is None else ""


def _imported(each: Import) -> str:
    does = f"calls {each.call}()" if each.call else f"imports {each.module}"
    return f"{each.file} line {each.line} {does}"


def _about_channels(environment: Environment) -> Iterator[str]:
    others = [each for each in environment.channels if each not in FROM_PYPI]
    others += [each.text for each in environment.entries if "::" in each.text]
    if others:
        yield (
            f"{environment.file.name}: {', '.join(others)} is conda's: the images have the wheels "
            "of the Python package index instead"
        )
