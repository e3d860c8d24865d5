"""The log of refused and broken clients: a line for each kind and peer, then only their number.

Whoever reaches the port may cause such lines, as many as it likes.
"""

from __future__ import annotations

import asyncio
import logging
import re
from dataclasses import dataclass, field

log = logging.getLogger(__name__)

INTERVAL = 30.0  # seconds
MOST_KINDS = 100  # of lines at a time, over all peers
FEW = 3  # learners that a count names

_VALUE = re.compile(r"""[0-9:(]|(?<!\w)['"]""")


@dataclass(slots=True)
class _Repeats:
    """What was not written since the last line."""

    timer: asyncio.TimerHandle
    count: int = 0
    names: set[str] = field(default_factory=set)


class Complaints:
    """Writes a warning, and for `INTERVAL` seconds counts those that are like it.

    Args:
        who: What clients are called in the log, before their name.
    """

    def __init__(self, who: str = "learner") -> None:
        self._who = who
        self._repeats: dict[tuple[str, str], _Repeats] = {}

    def warn(self, name: str, peer: str, event: str, reason: str) -> None:
        """Say that something happened to a client, or count it.

        Args:
            peer: Its address and port. Learners at one address are counted together.
            event: What happened, such as ``refused``.
            reason: Its kind is the text before the first value in it, or after, if it begins so.
        """
        host = peer.rpartition(":")[0]
        words = (text.strip(" -") for text in _VALUE.split(reason))
        kind = f"{event}: {next(filter(None, words), '')}"
        key = (kind, host)
        if key not in self._repeats and len(self._repeats) >= MOST_KINDS:
            key = (event, "other addresses")  # few: events are ours
        known = self._repeats.get(key)
        if known is None:
            log.warning("%s %s at %s %s: %s", self._who, name, peer, event, reason)
            self._repeats[key] = _Repeats(self._later(key))
            return
        known.count += 1
        if len(known.names) < FEW:
            known.names.add(name)

    def close(self) -> None:
        """Say what was counted until now."""
        for key, known in self._repeats.items():
            known.timer.cancel()
            self._say(key, known)
        self._repeats.clear()

    def _later(self, key: tuple[str, str]) -> asyncio.TimerHandle:
        return asyncio.get_running_loop().call_later(INTERVAL, self._expire, key)

    def _expire(self, key: tuple[str, str]) -> None:
        known = self._repeats.pop(key)
        self._say(key, known)
        if known.count:  # it goes on: the next ones are counted, too
            self._repeats[key] = _Repeats(self._later(key))

    def _say(self, key: tuple[str, str], known: _Repeats) -> None:
        if known.count:
            kind, host = key
            log.warning(
                "... and %d more from %s in the last %.0f s (%s), among them %s",
                known.count,
                host,
                INTERVAL,
                kind,
                ", ".join(sorted(known.names)),
            )
