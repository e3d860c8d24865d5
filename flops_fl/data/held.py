"""The data that a learner's code has got: known by a hash, and loaded again when they change."""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from flops_fl.data.content import hash_of
from flops_fl.data.local import DataPlace
from flops_fl.data.tables import require_same
from flops_fl.errors import Unreachable
from flops_fl.text import counted, some

log = logging.getLogger(__name__)

WAIT = 20.0
"""Seconds that a fit waits for a data server that is away, before it takes the data of before."""
_SHOWN = 8
_STALE = "stale"  # the state of data that the code may have taken in part


@dataclass(frozen=True, slots=True)
class _Fresh:
    """A dataset and its hash."""

    dataset: Any
    hash: str


class HeldData:
    """Gives data to a learner's code, and remembers which these were.

    Args:
        learner: The learner's id, for the log.
        refreshes: Whether a fit takes data that have changed since the last one.
    """

    def __init__(self, place: DataPlace, learner: str, *, refreshes: bool = False) -> None:
        self.refreshes = refreshes
        self.hash = ""
        """Of the rows that the code has got; empty if it has not asked for any."""
        self.rows = 0
        self._place, self._learner = place, learner
        self._state = ""
        self._features: Any = None
        self._away = False
        self._names: list[str] = []  # of files or flights, when we last looked
        self._fresh: _Fresh | None = None  # while the code asks for what has changed

    def __str__(self) -> str:
        return f"data {self.hash}: {counted(self.rows, 'row')}"

    def load(self) -> Any:
        """What `load_dataset()` gives to the code.

        Raises:
            FlopsError: see `DataPlace`; the columns or features are others than before.
        """
        fresh = self._fresh or self._checked(self._place.load())
        self.hash, self.rows = fresh.hash, len(fresh.dataset)
        self._state = fresh.dataset._fingerprint
        return copy.copy(fresh.dataset)  # the code may change its format

    def refresh(self, attach: Callable[[], None]) -> None:
        """If the data have changed, load them and call `attach`, which lets the code take them.

        If a server is away, the code keeps the data that it has.

        Raises:
            FlopsError: there are no data any more, none that can be read or that fit those of
                before, a server lets us in no more, or `attach` raises.
        """
        if not (self.refreshes and self._state):
            return
        try:
            state, names = self._place.state(0 if self._away else WAIT)
            fresh = None if state == self._state else self._changed()
        except Unreachable as error:
            if not self._away:
                log.warning("[%s] %s. It trains on the data that it has", self._learner, error)
            self._away = True
            return
        if self._away:
            log.info("[%s] the data server is back", self._learner)
        self._away = False
        if fresh is not None:
            self._give(fresh, attach, names)
        self._names = names

    def _changed(self) -> _Fresh | None:
        fresh = self._checked(self._place.load(WAIT))
        if fresh.hash == self.hash and self._state != _STALE:
            self._state = fresh.dataset._fingerprint  # another file with the same rows
            return None
        return fresh

    def _checked(self, dataset: Any) -> _Fresh:
        self._features = self._features or dataset.features
        require_same("the data at the start", self._features, "the data now", dataset.features)
        return _Fresh(dataset, hash_of(dataset))

    def _give(self, fresh: _Fresh, attach: Callable[[], None], names: list[str]) -> None:
        self._fresh, self._state = fresh, _STALE
        try:
            attach()
        except BaseException:
            self._state = _STALE  # also if the code had got them: it may have taken half of them
            raise
        finally:
            self._fresh = None
        if self._state != _STALE:
            self._say_changes(names)
            return
        self._state = fresh.dataset._fingerprint
        log.warning(
            "[%s] the data have changed, and set_model_data() has not called load_dataset(): the "
            "old ones are trained on", self._learner,
        )  # fmt: skip

    def _say_changes(self, names: list[str]) -> None:
        """Log what has come and gone, so that a hash in the history can be explained."""
        was, now = set(self._names), set(names)
        changes = [f"new: {some(now - was, _SHOWN)}"] if was and now - was else []
        changes += [f"gone: {some(was - now, _SHOWN)}"] if was - now else []
        log.info("[%s] new %s", self._learner, "; ".join([str(self), *changes]))
