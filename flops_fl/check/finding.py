"""What `flops-fl check` finds: a mistake, where it is, and what to do about it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, TypeAlias

Severity: TypeAlias = Literal["error", "warning"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """One mistake in a repository."""

    rule: str
    """What kind it is, for programs, such as ``import-not-listed``."""
    severity: Severity
    """An error ends or spoils a federated training. A warning says what one should know."""
    file: str
    """Relative to the repository."""
    line: int
    what: str
    remedy: str
    traceback: str = ""
    """The user's own traceback, if their code raised."""


def error(rule: str, file: str, line: int, what: str, remedy: str) -> Finding:
    """A finding for which `flops-fl check` exits with 3."""
    return Finding(rule=rule, severity="error", file=file, line=line, what=what, remedy=remedy)


def warning(rule: str, file: str, line: int, what: str, remedy: str) -> Finding:
    """A finding that costs no training."""
    return Finding(rule=rule, severity="warning", file=file, line=line, what=what, remedy=remedy)


def ordered(findings: Iterable[Finding]) -> list[Finding]:
    """Errors first, then by file and line. At one place the first error stands for all."""
    kept: dict[tuple[str, int], Finding] = {}
    out = []
    for finding in findings:
        place = finding.file, finding.line
        if finding.severity == "warning" or place not in kept:
            out.append(finding)
        if finding.severity == "error":
            kept.setdefault(place, finding)
    return sorted(out, key=lambda each: (each.severity, each.file, each.line))
