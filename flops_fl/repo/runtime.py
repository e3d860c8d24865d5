"""What the runtime itself needs, and which pins of a repository cannot be kept beside it.

A learner's or an aggregator's environment has the runtime in it, so a package has one version for
both. Where a repository's pin leaves none, the pin is dropped if the package is the runtime's own
business (`OURS`). Otherwise there is no such environment.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, distribution

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

RUNTIME = "flops-fl"
NARROW = ("flwr", "flops-utils", "datasets", "mlflow-skinny")
"""Packages of which the runtime takes one or two versions, so their needs are as its own."""

OURS = frozenset(
    {
        *(RUNTIME, "flops-utils", "flwr", "grpcio", "grpcio-health-checking", "protobuf"),
        *("mlflow", "mlflow-skinny", "packaging", "psutil", "pyyaml"),
    }
)
"""Packages of which the runtime chooses the version, whatever a repository pins."""


@dataclass(frozen=True, slots=True)
class Need:
    """Versions of a package that one of the runtime's packages needs."""

    by: str
    versions: SpecifierSet

    def __str__(self) -> str:
        return f"{self.by} needs {self.versions}"


def against(name: str, versions: SpecifierSet) -> Need | None:
    """The need of the runtime that leaves none of these versions of a package; None: none does."""
    return next(
        (need for need in runtime_needs().get(name, ()) if not overlap(versions, need.versions)),
        None,
    )


@lru_cache(maxsize=1)
def runtime_needs() -> dict[str, tuple[Need, ...]]:
    """All that the runtime needs, by name, ``python`` included, as its installed packages say."""
    found: dict[str, list[Need]] = {}
    for name in (RUNTIME, *NARROW):
        try:
            required = list(requirements_of(name, ("aggregator",) if name == RUNTIME else ()))
            metadata = distribution(name).metadata
        except PackageNotFoundError:  # of an extra that is not installed
            continue
        if "Requires-Python" in metadata:
            versions = SpecifierSet(metadata["Requires-Python"])
            found.setdefault("python", []).append(Need(name, versions))
        for requirement in required:
            other = canonicalize_name(requirement.name)
            found.setdefault(other, []).append(Need(name, requirement.specifier))
    return {name: tuple(needs) for name, needs in found.items()}


def requirements_of(name: str, extras: Iterable[str] = ()) -> Iterator[Requirement]:
    """What an installed package requires on this machine, with some of its extras.

    Raises:
        PackageNotFoundError: it is not installed.
    """
    for text in distribution(name).requires or ():
        requirement = Requirement(text)
        marker = requirement.marker
        if not marker or any(marker.evaluate({"extra": extra}) for extra in ("", *extras)):
            yield requirement


def overlap(one: SpecifierSet, other: SpecifierSet) -> bool:
    """Whether some version is in both sets.

    >>> overlap(SpecifierSet("==6.0.1"), SpecifierSet(">=6.0.2,<7"))
    False
    >>> overlap(SpecifierSet(">1.2"), SpecifierSet("<1.3"))
    True
    """
    both = one & other
    return any(both.contains(version, prereleases=True) for version in _candidates(both))


def _candidates(versions: SpecifierSet) -> Iterator[Version]:
    """Versions of which one is in the set, unless it is empty: its bounds, and just above them."""
    yield Version("0")
    for specifier in versions:
        if specifier.operator == "===":
            continue
        bound = Version(specifier.version.removesuffix(".*"))
        yield bound
        yield Version(f"{bound.base_version}.0.0.1")
