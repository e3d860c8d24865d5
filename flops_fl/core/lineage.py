"""Which rows made a model: what learners say of the data that their updates were trained on."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import TypeAlias

from flops_fl.types import RoundRecord, Update

Entry: TypeAlias = Mapping[str, str | int]
"""``data``, the hash of the rows, or empty; and ``examples``."""

_HASH = re.compile("[0-9a-f]{1,64}")


def entry_of(update: Update) -> dict[str, str | int]:
    """What an update was trained on; text that is no hash is dropped, whoever sent it."""
    known = update.data if _HASH.fullmatch(update.data) else ""
    return {"data": known, "examples": update.examples}


def latest(history: Iterable[RoundRecord]) -> dict[str, Entry]:
    """The last entry of each learner. One that never told a hash has none."""
    found: dict[str, Entry] = {}
    for record in history:
        if record.new_data:
            found.update(record.new_data)
    return found


def changes(history: Iterable[RoundRecord], said: Mapping[str, Entry]) -> dict[str, Entry]:
    """The entries whose hash is another one than before.

    So the history of a run whose data never change is short.
    """
    before = latest(history) if said else {}
    was = {learner: entry["data"] for learner, entry in before.items()}
    return {learner: e for learner, e in said.items() if e["data"] != was.get(learner, "")}


def together(history: Sequence[RoundRecord], first: int) -> str:
    """A hash of all that the rounds after `first` were trained on; empty if nobody told.

    It is the same if the same learners took part, with the same data.
    """
    pairs: set[tuple[str, str]] = set()
    known: dict[str, Entry] = {}
    for record in history:
        known.update(record.new_data)
        if record.round > first:
            pairs |= {(name, str(known[name]["data"])) for name in record.learners if name in known}
    text = "".join(f"{name} {data}\n" for name, data in sorted(pairs) if data)
    return hashlib.sha256(text.encode()).hexdigest()[:16] if text else ""
