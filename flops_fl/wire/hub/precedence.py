"""The order in which a stage gives out its answers."""

from __future__ import annotations

from bisect import insort
from collections import deque
from collections.abc import Iterable, Sequence
from typing import Protocol


class Precedence(Protocol):
    """Says whose answer is next. It is told who is asked and whose answer is final."""

    def ask(self, learners: Iterable[str]) -> None:
        """Take note that these learners have been asked."""

    def settle(self, learner: str) -> None:
        """Take note that a learner's answer is final."""

    def next(self) -> str | None:
        """The learner whose answer is given out next; None if that answer is not there yet."""

    def give(self) -> None:
        """Take note that the answer of `next` is given out."""

    def awaited(self) -> str | None:
        """The learner whose answer must come before any other; None if any answer will do."""

    def ready(self) -> Sequence[str]:
        """Learners whose answers are there and wait for no other."""


class ById:
    """By learner id. A sum of floats depends on its order, so a fixed order gives fixed bits."""

    def __init__(self) -> None:
        self._names: list[str] = []
        self._given = 0  # answers of the names before this index have been given out
        self._head = 0  # answers of the names before this index are final
        self._settled: set[str] = set()

    def ask(self, learners: Iterable[str]) -> None:
        for learner in learners:
            self._settled.discard(learner)
            insort(self._names, learner, lo=self._head)

    def settle(self, learner: str) -> None:
        self._settled.add(learner)
        while self._head < len(self._names) and self._names[self._head] in self._settled:
            self._head += 1

    def next(self) -> str | None:
        return self._names[self._given] if self._given < self._head else None

    def give(self) -> None:
        self._given += 1

    def awaited(self) -> str | None:
        return self._names[self._head] if self._head < len(self._names) else None

    def ready(self) -> Sequence[str]:
        return self._names[self._given : self._head]


class ByArrival:
    """By arrival: no answer waits for another. The result then depends on learners' speed."""

    def __init__(self) -> None:
        self._ready: deque[str] = deque()

    def ask(self, learners: Iterable[str]) -> None:
        pass

    def settle(self, learner: str) -> None:
        self._ready.append(learner)

    def next(self) -> str | None:
        return self._ready[0] if self._ready else None

    def give(self) -> None:
        self._ready.popleft()

    def awaited(self) -> str | None:
        return None

    def ready(self) -> Sequence[str]:
        return list(self._ready)
