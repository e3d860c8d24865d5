"""Text that came from elsewhere, made fit to be shown: short, and without control characters."""

from __future__ import annotations

import re
from collections.abc import Collection
from heapq import nsmallest

SENTENCE, TRACEBACK = 240, 8_000  # characters; a reason, and where it came from

_CONTROL = re.compile(
    r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)


def sentence(text: str, limit: int = SENTENCE) -> str:
    """One line of at most `limit` characters: nobody's message looks like two, or like ours.

    Control characters, with which a terminal could be told things, are shown as escapes.
    """
    cut = text if len(text) <= limit else f"{text[: limit - 30]} ... ({len(text)} characters)"
    return _escaped(" ".join(cut.split("\n")))


def paragraph(text: str, limit: int = TRACEBACK) -> str:
    """Lines of at most a sentence's length, the last `limit` characters of them in all.

    A traceback's end says most.
    """
    kept = text if len(text) <= limit else f"... {text[-limit:]}"
    lines = (
        line if len(line) <= SENTENCE else f"{line[:SENTENCE]} ..." for line in kept.split("\n")
    )
    return _escaped("\n".join(lines))


def some(names: Collection[str], few: int = 3) -> str:
    """The first few names, and how many there are beside them."""
    more = f" and {len(names) - few} more" if len(names) > few else ""
    return ", ".join(nsmallest(few, names)) + more


def _escaped(text: str) -> str:
    return _CONTROL.sub(lambda found: repr(found.group())[1:-1], text.replace("\r\n", "\n"))
