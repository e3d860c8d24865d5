"""What goes into the images of a repository: what it lists, beside what the runtime needs."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

from flops_fl import __version__
from flops_fl.errors import RepositoryError
from flops_fl.images.lock import Lock, Pin, needed_by, parse_pins
from flops_fl.images.uv import Target, Unsolvable, compile_requirements
from flops_fl.process.temporary import temporary_folder
from flops_fl.repo.dependencies import misnamed
from flops_fl.repo.environment import (
    Entry,
    Environment,
    python_versions,
    read_environment,
)
from flops_fl.repo.imports import packages_imported
from flops_fl.repo.runtime import OURS, RUNTIME, against, requirements_of

MLFLOW = frozenset({"mlflow", "mlflow-skinny"})
SERVING = ("mlflow-skinny", "pandas", "numpy")
"""What of the runtime serves a model: MLflow's scoring server, and what that imports."""
_INDEX = re.compile(r"(--index-url|-i|--extra-index-url|--find-links|-f|--trusted-host)[ =]")
_SOURCE = re.compile(
    r"(.*@ *)?(git|hg|svn|bzr)\+|(-e|--editable)\b|.*\.(tar\.gz|zip|tgz)$"
    r"|(.*@ *)?(file:|\.{0,2}/)(?!.*\.whl\b)|\.{1,2}$"  # a folder
)


@dataclass(frozen=True, slots=True)
class Dropped:
    """What a dependency file asks for, and the images do not have."""

    text: str
    line: int
    why: str

    def sentence(self, file: str) -> str:
        """What is not kept of this dependency file, and why."""
        return f"{file} line {self.line}: {self.text} is not kept: {self.why}"


@dataclass(frozen=True, slots=True)
class Needs:
    """What is to be resolved for a repository."""

    file: str
    """The name of its dependency file."""
    listed: tuple[str, ...]
    """The repository's requirements, in pip's words."""
    options: tuple[str, ...]
    """Where pip finds packages, as the dependency file says."""
    dropped: tuple[Dropped, ...]
    serving: bool = False
    """Whether the image serves a model; else it is a learner's or an aggregator's."""

    @classmethod
    def of(cls, file: str, lines: Iterable[str], dropped: Iterable[Dropped] = ()) -> Needs:
        """The needs that lines of pip's state."""
        said = [line for line in lines if line]
        options = tuple(line for line in said if _INDEX.match(line))
        return cls(file, tuple(x for x in said if x not in options), options, tuple(dropped))

    @property
    def names(self) -> frozenset[str]:
        """The packages that the repository lists by name."""
        return frozenset(canonicalize_name(head_of(each)) for each in self.listed)

    def asked(self, python: str, *, cpu: bool) -> str:
        """A digest of the question to which a lock is an answer."""
        words = [__version__, python, str(cpu), *self.listed, *self.options, *_runtime(all_=True)]
        return hashlib.sha256("\n".join(words).encode()).hexdigest()[:16]


def needs_of(folder: Path, python: str) -> Needs:
    """What a repository needs in its images.

    Args:
        python: The version of Python in the images, such as ``3.12``.

    Raises:
        RepositoryError: it has no dependency file, or one that cannot be used.
    """
    environment = read_environment(folder)
    if environment is None:
        remedy = misnamed(folder)[1] or "flops-fl deps REPO --write makes one"
        raise RepositoryError(
            f"the repository has no conda.yaml, which says what its images need: {remedy}",
            stage="conda.yaml",
        )
    tracked = MLFLOW & {each.module for each in packages_imported(folder)}
    lines, dropped = [], []
    for entry in environment.entries:
        text, why = kept(entry, environment, python, tracked=bool(tracked))
        if why:
            dropped.append(Dropped(entry.text, entry.line, why))
        lines.append(text)
    return Needs.of(environment.file.name, lines, dropped)


def needs_of_model(file: str, requirements: Sequence[str], *, tracked: bool) -> Needs:
    """What a model needs in an image that serves it.

    Args:
        file: Where the requirements stand, for messages.
        tracked: Whether the model needs all of MLflow, and not only its server.

    Raises:
        RepositoryError: a requirement is built from source.
    """
    lines = []
    for text in requirements:
        _no_source(text, f"{file} has {text}")
        if tracked or canonicalize_name(head_of(text)) not in MLFLOW:
            lines.append(text)
    return replace(Needs.of(file, lines), serving=True)


def kept(entry: Entry, environment: Environment, python: str, *, tracked: bool) -> tuple[str, str]:
    """What stays of an entry in pip's words, and why that is not all of it.

    Args:
        tracked: Whether the code uses MLflow itself.

    Raises:
        RepositoryError: it is built from source.
    """
    if entry is environment.python:
        return "", _other_python(python_versions(entry), python)
    if not entry.pip:
        return "", "" if entry.name == "pip" else "pip has no such package"
    _no_source(entry.pip, f"{environment.file.name} line {entry.line} has {entry.text}", entry.line)
    if entry.name in MLFLOW and not tracked:
        return "", "the aggregator has its own MLflow, and learners need none"
    requirement = entry.requirement
    need = requirement and entry.name in OURS and against(entry.name, requirement.specifier)
    return (head_of(entry.pip), str(need)) if need else (entry.pip, "")


def _no_source(requirement: str, where: str, line: int = 0) -> None:
    if _SOURCE.match(requirement):
        raise RepositoryError(
            f"{where}, which is built from source, and images take wheels alone: build its wheel "
            "(pip wheel --no-deps), put it into the repository, and list its path",
            stage="conda.yaml",
            line=line,
        )


def _other_python(wanted: str, python: str) -> str:
    """Why the images have another Python than is asked for; empty if they have that one."""
    if wanted.startswith(f"=={python}.") or SpecifierSet(wanted).contains(f"{python}.99"):
        return ""
    need = against("python", SpecifierSet(wanted))
    return f"the images have Python {python}{f', since {need}' if need else ''}"


def resolve(
    folder: Path, needs: Needs, targets: Sequence[Target], *, cpu: bool = False
) -> tuple[Lock, tuple[Dropped, ...]]:
    """Find versions of everything for both images, the same on all platforms where that can be.

    Returns:
        The lock, and what had to be dropped of `needs.listed` besides.

    Raises:
        RepositoryError: no versions fit together.
        UsageError: uv is missing, or the package index cannot be reached.
    """
    listed, loose = needs.listed, tuple(map(_loosened, needs.listed))
    try:
        pins = _resolved(folder, needs, listed, targets, cpu=cpu)
    except Unsolvable as error:
        try:
            if loose == listed:
                raise
            pins = _resolved(folder, needs, loose, targets, cpu=cpu)
        except Unsolvable:
            raise RepositoryError(
                f"what {needs.file} lists does not fit together with what flops-fl needs, or has "
                f"no wheels ({error}): change its versions there",
                stage="conda.yaml",
            ) from None
    asked = needs.asked(targets[0].python, cpu=cpu)
    lock = Lock(asked, targets[0].python, needs.options, pins)
    return lock, tuple(_missed(listed, pins, folder))


def _resolved(
    folder: Path, needs: Needs, listed: Sequence[str], targets: Sequence[Target], *, cpu: bool
) -> Mapping[str, Sequence[Pin]]:
    lines = [*needs.options, *listed, *_runtime(all_=True, serving=needs.serving)]
    found: dict[str, Sequence[Pin]] = {}
    with temporary_folder("flops-fl-lock-") as temporary:
        first: Path | None = None
        for target in targets:
            try:
                text = compile_requirements(lines, target, folder, first, cpu=cpu)
            except Unsolvable as error:
                if first is None:
                    raise Unsolvable(f"{target.platform}: {error}") from None
                text = compile_requirements(lines, target, folder, None, cpu=cpu)
            found[target.platform] = [_known(pin) for pin, _ in parse_pins(text)]
            if first is None:
                first = temporary / "constraints"
                first.write_text("\n".join(pin.spec for pin in found[target.platform]))
    return found


def _known(pin: Pin) -> Pin:
    """A package without uv's word for the requirements themselves."""
    return replace(pin, via=tuple(each for each in pin.via if not each.startswith("-")))


def _loosened(requirement: str) -> str:
    head = head_of(requirement)
    return head if canonicalize_name(head) in OURS else requirement


def head_of(requirement: str) -> str:
    """The name in a requirement; the whole where it has none."""
    found = re.match(r"[\w.-]+(?=\s*(?:\[|[<>=!~;@]|$))", requirement)
    return found[0] if found else requirement


def _missed(
    listed: Iterable[str], pins: Mapping[str, Sequence[Pin]], folder: Path
) -> Iterable[Dropped]:
    environment = read_environment(folder)
    lines = {entry.pip: entry.line for entry in environment.entries} if environment else {}
    for text in listed:
        if _loosened(text) == text:
            continue
        wanted = Requirement(text)
        for platform, found in pins.items():
            got = next((p for p in found if p.name == canonicalize_name(wanted.name)), None)
            if got and not wanted.specifier.contains(got.version, prereleases=True):
                why = f"no such version fits on {platform}: {got.version} is taken"
                yield Dropped(text, lines.get(text, 0), why)
                break


def layers_of(pins: Sequence[Pin], needs: Needs) -> dict[str, set[str]]:
    """Which packages are in which layer, in the order in which they change.

    What the repository lists is not in the runtime's layers, so that these are the same for many
    repositories. Only an aggregator has the layer ``aggregator``.
    """
    everything = {pin.name for pin in pins}
    both = needed_by(map(head_of, _runtime(all_=False, serving=needs.serving)), pins)
    led = needed_by(map(head_of, _runtime(all_=True, serving=needs.serving)), pins)
    listed = needed_by(needs.names, pins) | (everything - led)
    return {
        "runtime": (both - needs.names) | (set() if needs.serving else {RUNTIME}),
        "aggregator": led - both - listed,
        "dependencies": (listed - both) | (needs.names & both),
    }


def _runtime(*, all_: bool, serving: bool = False) -> list[str]:
    """What flops-fl needs: in both actors' images, in an aggregator's, or to serve a model."""
    extras = ("images", *(("aggregator",) if all_ or serving else ()))
    return [
        f"{requirement.name}{requirement.specifier}"
        for requirement in requirements_of(RUNTIME, extras)
        if requirement.name != RUNTIME and (not serving or requirement.name in SERVING)
    ]
