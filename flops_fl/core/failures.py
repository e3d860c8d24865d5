"""Failures of many learners in a few words: equal ones are one."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from flops_fl.text import some
from flops_fl.types import LearnerFailure

KINDS = 3  # that are said; more of them would hide the first
_NUMBER = re.compile(r"0x[0-9a-f]+|\d+")

Kind: TypeAlias = tuple[str, str]
"""Where it failed, and why, but for the numbers in it."""


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
    """What failures have in common that are said as one."""
    return stage, _NUMBER.sub("#", reason)


def alike(failures: Iterable[LearnerFailure]) -> list[Alike]:
    """Failures by kind, the most frequent first."""
    kinds: dict[Kind, list[LearnerFailure]] = {}
    for failure in failures:
        kinds.setdefault(kind_of(failure.stage, failure.reason), []).append(failure)
    groups = [
        Alike(kind, [f.learner for f in found], first.stage, first.reason, first.traceback)
        for kind, found in kinds.items()
        for first in found[:1]
    ]
    return sorted(groups, key=lambda group: -len(group.learners))


def in_short(failures: Iterable[LearnerFailure]) -> str:
    """One sentence for all."""
    groups = alike(failures)
    rest = sum(len(group.learners) for group in groups[KINDS:])
    more = [f"and {rest} more for other reasons"] if rest else []
    return "; ".join([*map(str, groups[:KINDS]), *more])
