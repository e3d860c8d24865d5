"""Group learners by their setup (commit, packages, state), for warnings and for the result."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from flops_fl.core.observer import Observer
from flops_fl.text import some
from flops_fl.types import Difference, Setup, Stage

MOST = 20  # setups that are told apart, and differences that are reported
LISTED = 10  # learners' names in the result for each setup


class Census(Observer):
    """Groups learners by setup, and reports where a learner's differs from the aggregator's.

    Args:
        setup: The aggregator's own setup.
        say: Called with a sentence for each difference, once, at the start of the stage that
            follows the learner's join.
    """

    def __init__(self, setup: Setup, say: Callable[[str], None]) -> None:
        self._own = setup
        self._say = say
        self._setups: list[Setup] = []
        self._of: dict[str, Setup | None] = {}
        self._new: set[str] = set()
        self._said: set[Difference] = set()

    def on_join(self, learner: str, setup: Setup) -> None:
        self._of[learner] = self._known(setup)
        self._new.add(learner)

    def on_stage(self, round: int, stage: Stage, learners: Sequence[str]) -> None:
        found: dict[Difference, list[str]] = {}
        for learner in sorted(self._new):
            setup = self._of[learner]
            for difference in self._own.differences(setup) if setup else ():
                found.setdefault(difference, []).append(learner)
        self._new.clear()
        for difference, names in found.items():
            if difference not in self._said and len(self._said) < MOST:
                self._said.add(difference)
                self._say(_sentence(difference, names))

    def document(self) -> dict[str, Any]:
        """The census in result.json: the aggregator's setup, and the learners grouped by setup."""
        groups: dict[int, list[str]] = {}
        for learner, setup in sorted(self._of.items()):
            index = len(self._setups) if setup is None else self._setups.index(setup)
            groups.setdefault(index, []).append(learner)
        return {
            "aggregator": _entry(self._own),
            "learners": [
                {
                    "count": len(names),
                    "learners": names[:LISTED],
                    **_entry(self._of[names[0]] or Setup()),
                    "differences": [
                        str(d) for d in self._own.differences(self._of[names[0]] or Setup())
                    ],
                }
                for _, names in sorted(groups.items())
            ],
        }

    def _known(self, setup: Setup) -> Setup | None:
        """One object for all equal setups; None for a new setup after `MOST` different ones."""
        known = setup.comparable(self._own)
        if known in self._setups:
            return self._setups[self._setups.index(known)]
        if len(self._setups) == MOST:
            return None
        self._setups.append(known)
        return known


def _entry(setup: Setup) -> dict[str, Any]:
    return {
        "commit": setup.commit or None,
        "versions": dict(setup.versions),
        "state": setup.state or None,
    }


def _sentence(difference: Difference, names: Sequence[str]) -> str:
    verb = "has" if len(names) == 1 else "have"
    return f"{some(names)} {verb} {difference}: --mismatch refuse keeps out what differs"
