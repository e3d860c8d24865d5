"""Makes text from other machines or user code safe to show: short, no control characters."""

from __future__ import annotations

import re
from collections.abc import Collection
from heapq import nsmallest

SENTENCE, TRACEBACK = 240, 8_000  # characters of a reason and of its traceback

_CONTROL = re.compile(
    r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)


def sentence(text: str, limit: int = SENTENCE) -> str:
    """Put text into one line of at most `limit` characters.

    So a foreign message cannot look like several lines, or like lines of our own log. Control
    characters, which could command a terminal, are shown as escapes. Passwords in URLs are left
    out.
    """
    safe = without_secrets(text[: 2 * limit])
    cut = safe if len(text) <= limit else f"{safe[: limit - 30]} ... ({len(text)} characters)"
    return _escaped(" ".join(cut.split("\n")))


def paragraph(text: str, limit: int = TRACEBACK) -> str:
    """Keep the last `limit` characters of a text, and cut each line to `SENTENCE` characters.

    The end is kept since the end of a traceback says most.
    """
    kept = text if len(text) <= limit else f"... {text[-limit:]}"
    lines = (
        line if len(line) <= SENTENCE else f"{line[:SENTENCE]} ..." for line in kept.split("\n")
    )
    return _escaped("\n".join(lines))


def raised(error: BaseException) -> str:
    """An exception's type and text in one line, even if its own methods raise."""
    try:
        said = str(error)
    except Exception:
        said = "its text cannot be had"
    return f"{type(error).__name__}: {sentence(said)}"


def first_line(error: BaseException) -> str:
    """The first line of an error's text, without a full stop; its type where it has none."""
    return (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")


def innermost(error: BaseException) -> BaseException:
    """The error at the bottom of what libraries for networks or files wrap around it.

    They wrap a refused connection in half a dozen errors, each of which quotes the one before.
    """
    below, system = error, isinstance(error, OSError)
    while cause := below.__cause__ or below.__context__:
        if not str(cause) or str(cause) not in str(below):
            break
        below, system = cause, system or isinstance(cause, OSError)
    return below if system else error  # another error's cause says less than the error


def reason(error: BaseException) -> str:
    """Why something failed, in one short line, such as ``Connection refused``."""
    below = innermost(error)
    if isinstance(below, OSError) and below.strerror and not below.filename:
        return sentence(below.strerror)
    return sentence(first_line(below))


def some(names: Collection[str], few: int = 3) -> str:
    """The first few names in order, and how many more there are."""
    more = f" and {len(names) - few} more" if len(names) > few else ""
    return ", ".join(nsmallest(few, names)) + more


def numbered(before: str, count: int) -> list[str]:
    """Names such as ``learner-00``, with leading zeros, so that they sort by number."""
    digits = len(str(count - 1))
    return [f"{before}{index:0{digits}d}" for index in range(count)]


def counted(number: int, name: str) -> str:
    """``1 learner``, ``2 learners``."""
    return f"{number} {name}" + ("" if number == 1 else "s")


def amount(count: float, ones: str = "B") -> str:
    """Bytes in decimal units, as links are measured, such as ``1.5 MB``."""
    for unit in (ones, "KB", "MB", "GB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:,.3g} TB"


def without_secrets(text: str) -> str:
    """Remove the credentials before the host's @ from all URLs: of other schemes than HTTP's, the
    password alone.
    """
    text = re.sub(r"(https?://)[^/@\s]*@", r"\1", text)
    return re.sub(r"(\w://[^/@:\s]*):[^/@\s]*@", r"\1@", text)


def _escaped(text: str) -> str:
    return _CONTROL.sub(lambda found: repr(found.group())[1:-1], text.replace("\r\n", "\n"))
