"""Why Git has failed, in one of its lines, and what to do."""

from __future__ import annotations

import re

from flops_fl.text import without_secrets

_WANTS_LOGIN = re.compile(r"could not read (Username|Password)|Authentication failed|error: 40[13]")
_LOGIN = (
    ". If it is private, give its URL with user and token (of a run by --repo: a run keeps none), "
    "or set up Git's credential helper"
)


def why_and_remedy(stderr: str) -> str:
    """What follows ``Git cannot fetch URL``; `stderr` is what Git has said in English."""
    why = _reason(without_secrets(stderr))
    login = _LOGIN if _WANTS_LOGIN.search(why) else ""
    return (
        f"({why}): check the address, the part after @, and that the repository may be read from "
        f"here{login}"
    )


def _reason(stderr: str) -> str:
    """The line of Git's words that says why it failed; what it advises comes after it."""
    lines = [line for line in stderr.splitlines() if line.strip()]
    for before, line in zip(["", *lines], lines, strict=False):
        if line.startswith(("fatal:", "error:")):
            # Where ssh failed, its own line says why.
            return before if before and "Could not read from remote" in line else line
    return lines[-1] if lines else "no reason given"
