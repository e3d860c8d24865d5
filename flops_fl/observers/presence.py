"""Says which learners join, are cut off and are back; thousands of them do not get a line each."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Sequence

from flops_fl.text import some

FEW = 3  # lines of a kind, before such lines become rarer
PAUSE = 2.5  # seconds until the next line of that kind; doubled with each further one
LONGEST = 160.0  # seconds between such lines
GATHERING = 0.5  # seconds in which what happens to several learners becomes one line


class Presence:
    """Who is there, in lines.

    Args:
        say: Shows a line. May be called by another thread.
    """

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._known: set[str] = set()
        self._pace = _Pace()
        self._away: set[str] = set()
        self._cut_off, self._back = _Gathered(self._say_that), _Gathered(self._say_that)

    def present(self, present: Sequence[str], minimum: int, *, listed: bool) -> None:
        """Learners wait for others; `listed`: a line while they are too few, too."""
        count = len(present)
        if count == minimum or (count < minimum and listed and self._pace.ready):
            come = set(present) - self._known
            self._known.update(come)
            who = f": {some(come)} joined" if come else ""
            self._say(f"{count} of {minimum} learners present{who}")
            self._pace.step()

    def cut_off(self, learner: str, reason: str, seconds: float) -> None:
        """A learner's connection is lost; without a reason it is not said."""
        self._away.add(learner)
        if reason:
            self._back.drop(learner)
            until = f"expected back for {seconds:.0f} s" if seconds else "not expected back"
            self._cut_off.add(learner, f"cut off ({reason}), {until}")

    def back(self, learner: str) -> None:
        """It is connected again."""
        self._away.discard(learner)
        self._cut_off.drop(learner)
        self._back.add(learner, "back")

    def named(self, learners: Collection[str]) -> str:
        """Some of these learners, and which of them are cut off. Thread-safe."""
        away = self._away.copy()
        return some([f"{name} (cut off)" if name in away else name for name in learners])

    def stop(self) -> None:
        """Say what is left to say."""
        self._cut_off.flush()
        self._back.flush()

    def _say_that(self, learners: Collection[str], what: str) -> None:
        self._say(f"{some(learners)} {'is' if len(learners) == 1 else 'are'} {what}")


class _Pace:
    """When the next line may come: some at once, then after pauses that double."""

    def __init__(self) -> None:
        self._lines, self._quiet_until = 0, 0.0

    @property
    def ready(self) -> bool:
        return time.monotonic() > self._quiet_until

    @property
    def wait(self) -> float:
        """Seconds until then."""
        return max(0.0, self._quiet_until - time.monotonic())

    def step(self) -> None:
        """A line was said."""
        self._lines += 1
        if self._lines > FEW:
            pause = min(PAUSE * 2 ** (self._lines - FEW), LONGEST)
            self._quiet_until = time.monotonic() + pause


class _Gathered:
    """What happens to learners, said for several at once: a line for all of whom the same is so."""

    def __init__(self, say: Callable[[Collection[str], str], None]) -> None:
        self._say = say
        self._pace = _Pace()
        self._unsaid: dict[str, str] = {}
        self._lock = threading.Lock()
        self._timer: threading.Timer | None = None

    def add(self, learner: str, what: str) -> None:
        with self._lock:
            self._unsaid[learner] = what
            if self._timer is None:
                self._timer = threading.Timer(max(GATHERING, self._pace.wait), self.flush)
                self._timer.daemon = True
                self._timer.start()

    def drop(self, learner: str) -> None:
        """It is no longer so."""
        with self._lock:
            self._unsaid.pop(learner, None)

    def flush(self) -> None:
        """Say now what is left."""
        with self._lock:
            unsaid, self._unsaid = self._unsaid, {}
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None
            if unsaid:
                self._pace.step()
        for what in dict.fromkeys(unsaid.values()):
            self._say([learner for learner, said in unsaid.items() if said == what], what)
