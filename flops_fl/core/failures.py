"""Describes the failures of many learners in few words: equal failures are grouped."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from flops_fl.text import some
from flops_fl.types import LearnerFailure

KINDS = 3  # kinds of failure in a message; more would hide the first
_NUMBER = re.compile(r"0x[0-9a-f]+|\d+")

Kind: TypeAlias = tuple[str, str]
"""The stage that failed and the reason, with numbers replaced."""


@dataclass(frozen=True, slots=True)
class Alike:
    """Learners that failed alike; `reason` and `traceback` are those of the first of them."""

    kind: Kind
    learners: Sequence[str]
    stage: str
    reason: str
    traceback: str

    @property
    def who(self) -> str:
        """Their number, and the names of some."""
        names, count = some(self.learners), len(self.learners)
        return f"{count} learners ({names})" if count > 1 else names

    def __str__(self) -> str:
        return f"{self.who}: {self.reason}"


def kind_of(stage: str, reason: str) -> Kind:
    """The key by which equal failures are grouped."""
    return stage, _NUMBER.sub("#", reason)


def alike(failures: Iterable[LearnerFailure]) -> list[Alike]:
    """Failures by kind, the most frequent first."""
    kinds: dict[Kind, list[LearnerFailure]] = {}
    for failure in failures:
        kinds.setdefault(kind_of(failure.stage, failure.reason), []).append(failure)
    groups = [
        Alike(kind, _names(found), first.stage, first.reason, first.traceback)
        for kind, found in kinds.items()
        for first in found[:1]
    ]
    return sorted(groups, key=lambda group: -len(group.learners))


def _names(failures: Sequence[LearnerFailure]) -> list[str]:
    """Each learner once: it may fail alike in a round's fit and in its evaluation."""
    return list(dict.fromkeys(failure.learner for failure in failures))


def in_short(failures: Iterable[LearnerFailure]) -> str:
    """One sentence about all failures."""
    groups = alike(failures)
    rest = sum(len(group.learners) for group in groups[KINDS:])
    more = [f"and {rest} more for other reasons"] if rest else []
    return "; ".join([*map(str, groups[:KINDS]), *more])
