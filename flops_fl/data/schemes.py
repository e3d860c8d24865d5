"""How rows can be split: the words of ``--partition``, read and checked. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

from flops_fl.errors import UsageError

Kind: TypeAlias = Literal["iid", "linear", "dirichlet", "shards", "column"]
SCHEMES = "iid, linear, dirichlet:ALPHA (such as dirichlet:0.5), shards:K or column:NAME"


@dataclass(frozen=True, slots=True)
class Scheme:
    """A way to split rows; only its own value is set."""

    kind: Kind
    alpha: float = 0.0
    shards: int = 0
    column: str = ""


def parse_scheme(text: str) -> Scheme:
    """Read ``iid``, ``linear``, ``dirichlet:ALPHA``, ``shards:K`` or ``column:NAME``.

    Raises:
        UsageError: it is none of these, or its value cannot be used.
    """
    name, colon, value = text.partition(":")
    kind = next((kind for kind in get_args(Kind) if kind == name), None)
    if kind is None or (colon and kind in ("iid", "linear")):
        raise UsageError(f"no partition scheme '{text}': expected {SCHEMES}")
    if kind == "dirichlet":
        alpha = _number(value)
        if not (math.isfinite(alpha) and alpha > 0):
            raise _wrong(text, "an alpha above 0")
        return Scheme(kind, alpha=alpha)
    if kind == "shards":
        if not (value.isdecimal() and int(value) > 0):
            raise _wrong(text, "how many shards each part gets, 1 or more")
        return Scheme(kind, shards=int(value))
    if kind == "column" and not value:
        raise _wrong(text, "the name of a column")
    return Scheme(kind, column=value)


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan


def _wrong(text: str, expected: str) -> UsageError:
    return UsageError(f"partition scheme '{text}': expected {expected}, as in {SCHEMES}")
