"""How an option is described, once: its default, what it does, where help shows it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pydantic import Field
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

# The groups of options, by importance: help shows them in this order.
REQUIRED = "required"
DATA = "data"
TRAINING = "training"
LEARNERS = "learners of a round"
CLUSTERS = "clusters of learners"
RESULTS = "results"
NETWORK = "network and TLS"
WAITING = "waiting"
UPDATES = "bad learners and bad updates"
PROCESS = "process"
LIMITS = "limits"
GROUPS = (
    REQUIRED, DATA, TRAINING, LEARNERS, CLUSTERS, RESULTS, NETWORK, WAITING, UPDATES, PROCESS,
    LIMITS,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Described:
    """What is known of an option, apart from its type, default and text."""

    group: str
    metavar: str
    advanced: bool
    positional: bool
    repeated: bool
    formerly: str
    shown: str


def option(
    text: str,
    group: str,
    default: Any = PydanticUndefined,
    *,
    metavar: str = "",
    advanced: bool = False,
    positional: bool = False,
    repeated: bool = False,
    formerly: str = "",
    shown: str = "",
    alias: str | None = None,
) -> Any:
    """A field of an options class.

    Args:
        text: What it does or is, in a line; help shows the default after it.
        group: One of `GROUPS`; those without a default are shown as required.
        default: None if the text says what happens without a value.
        metavar: The name of its value in help; empty for switches and choices.
        advanced: Shown by --help-all only.
        repeated: May be given several times, all of which count.
        formerly: An older name, without dashes, that still works.
        shown: What help shows as the default, if the default follows another option.
    """
    described = Described(group, metavar, advanced, positional, repeated, formerly, shown)
    extra: dict[str, Any] = {"option": described}
    return Field(default, description=text, alias=alias, json_schema_extra=extra)


def described(info: FieldInfo) -> Described:
    """The description that `option` stored in a field."""
    extra = info.json_schema_extra
    assert isinstance(extra, dict)
    found = extra["option"]
    assert isinstance(found, Described)
    return found


def flag(name: str) -> str:
    """``--round-timeout`` for a field's name."""
    return "--" + name.rstrip("_").replace("_", "-")


def variable(name: str) -> str:
    """``FLOPS_ROUND_TIMEOUT`` for a field's name."""
    return f"FLOPS_{name.rstrip('_').upper()}"
