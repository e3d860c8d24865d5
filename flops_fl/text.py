"""Makes text from other machines or user code safe to show: short, no control characters."""

from __future__ import annotations

import re
from collections.abc import Collection
from heapq import nsmallest

SENTENCE, TRACEBACK = 240, 8_000  # characters of a reason and of its traceback

_CONTROL = re.compile(
    r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)

# A password with characters that should be written as %2F and so on. A port is none.
_UNQUOTED = r"(?!\d*[/?#,]|//)\S*"
# Where a query ends: before the marks of the sentence around it, or before the next URL of a list.
_END = r"[])}'\",;:.]*(?:\s|$)|,\w+://"


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
    """``1 learner``, ``2 learners``, ``2 processes``."""
    return f"{number} {name}" + ("" if number == 1 else "es" if name.endswith("s") else "s")


def amount(count: float, ones: str = "B") -> str:
    """Bytes in decimal units, as links are measured, such as ``1.5 MB``."""
    for unit in (ones, "KB", "MB", "GB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:,.3g} TB"


def without_secrets(text: str) -> str:
    """Remove what may be secret from all URLs in a text.

    That is what stands before the host's @ (of other schemes than HTTP's, the password alone), and
    the query, for which three dots stand. A URL that was taken for a path has only one slash.
    """
    text = re.sub(rf"(https?://?)(?:[^/?#\s]*|[^/?#:@\s\[]*:{_UNQUOTED})@", r"\1", text)
    text = re.sub(rf"(\w://?[^/?#:@\s\[]*):(?:[^/?#\s]*|{_UNQUOTED})@", r"\1@", text)
    return re.sub(rf"(\w://?[^?\s]*\?)(?!\.{{3}}(?:{_END}))\S+?(?={_END})", r"\1...", text)


def without_login(value: str) -> str:
    """Remove what may be secret from one value that was meant as a URL or address, or several.

    They may lack the scheme: of ``me:secret@host`` the password is removed. The digest of an image,
    ``python:3.12@sha256:...``, stays. White space is taken for a part of a password.
    """
    safe = without_secrets(re.sub(r"\s", "\0", value))
    safe = re.sub(r"(^|[,\0])([^/:@,\0]*):(?!/)\S*@(?!sha256:)", r"\1\2@", safe)
    return safe.replace("\0", " ")


def _escaped(text: str) -> str:
    return _CONTROL.sub(lambda found: repr(found.group())[1:-1], text.replace("\r\n", "\n"))
