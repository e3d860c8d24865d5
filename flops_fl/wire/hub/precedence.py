"""In which order a stage's answers are given out."""

from __future__ import annotations

from bisect import insort
from collections import deque
from collections.abc import Iterable, Sequence
from typing import Protocol


class Precedence(Protocol):
    """Who is next. Told of each learner that is asked, and of each answer that is final."""

    def ask(self, learners: Iterable[str]) -> None:
        """These have been asked."""

    def settle(self, learner: str) -> None:
        """Its answer is there."""

    def next(self) -> str | None:
        """Whose answer is to be given out now; None: it is not there yet."""

    def give(self) -> None:
        """What `next` says is given out."""

    def awaited(self) -> str | None:
        """The one learner before whose answer no other can be given; None: any will do."""

    def ready(self) -> Sequence[str]:
        """Learners whose answers are there, and will be given without waiting for another."""


class ById:
    """By learner id: a sum of floats depends on its order, and so has the same bits always."""

    def __init__(self) -> None:
        self._names: list[str] = []
        self._given = 0  # names before this place have been given out
        self._head = 0  # names before this place are settled
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
    """As they come: nobody is waited for. The result then depends on learners' speed."""

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
