"""What ``--help`` shows: options by purpose, the required ones first."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import Any, get_args

from pydantic.fields import FieldInfo

from flops_fl.options.common import Options
from flops_fl.options.described import GROUPS, REQUIRED, described, flag, variable

COLUMN = 31  # where texts begin
WIDTH = 80
_BOUND = "\0"
_USAGE: dict[str, Any] = {"subsequent_indent": "  ", "break_on_hyphens": False}
HELP_ALL = "--help-all"


def help_text(cls: type[Options], prog: str, description: str, *, everything: bool) -> str:
    """The help of a command, with its advanced options or without."""
    shown: dict[str, list[str]] = {group: [] for group in GROUPS}
    hidden = []
    for name, info in _ordered(cls):
        if described(info).advanced and not everything:
            hidden.append(flag(name))
            continue
        group = REQUIRED if info.is_required() else described(info).group
        shown[group] += _entry(_usage(name, info), text_of(info))
    required = [_usage(name, info) for name, info in _ordered(cls) if info.is_required()]
    words = ["usage:", *prog.split(), *required, "[options]", *filter(None, [cls.rest])]
    blocks = [[*_wrapped(words), *textwrap.wrap(description, WIDTH)]]
    blocks += [[f"{group}:", *lines] for group, lines in shown.items() if lines]
    blocks.append(_ending(cls, len(hidden)))
    return "\n\n".join("\n".join(block) for block in blocks) + "\n"


def _wrapped(words: Sequence[str]) -> list[str]:
    """Lines of these words; a word that has a space is not broken there."""
    text = " ".join(word.replace(" ", _BOUND) for word in words)
    return [line.replace(_BOUND, " ") for line in textwrap.wrap(text, WIDTH, **_USAGE)]


def _ordered(cls: type[Options]) -> list[tuple[str, FieldInfo]]:
    """Positional ones first, then the command's own options, then those it shares."""
    return sorted(
        cls.model_fields.items(),
        key=lambda entry: (not described(entry[1]).positional, entry[0] not in cls.__annotations__),
    )


def _ending(cls: type[Options], hidden: int) -> list[str]:
    example, info = min(
        cls.model_fields.items(),
        key=lambda entry: (entry[1].is_required(), GROUPS.index(described(entry[1]).group)),
    )
    option = _usage(example, info).split()[0]
    lines = _entry(HELP_ALL, f"{hidden} more options, which few users need") if hidden else []
    said = f"In the environment {option} is {variable(example)}. [The default] is in brackets."
    return [*lines, said]


def _usage(name: str, info: FieldInfo) -> str:
    """An option with its value: ``--rounds N``."""
    about = described(info)
    if about.positional:
        return about.metavar
    choices = choices_of(info.annotation)
    value = about.metavar or "|".join(choices)
    return f"{flag(name)} {value}" if value else flag(name)


def choices_of(annotation: Any) -> list[str]:
    """The words that a Literal allows, also within a union."""
    found: list[str] = []
    for argument in get_args(annotation):
        found += [argument] if isinstance(argument, str) else choices_of(argument)
    return found


def text_of(info: FieldInfo) -> str:
    """What an option does, with its default in brackets."""
    default = info.get_default(call_default_factory=True) if not info.is_required() else None
    text = info.description or ""
    if default is None or default is False or default in ({}, []):
        return text
    if isinstance(default, list):  # as it is typed
        said = ",".join(map(str, default))
    else:
        said = f"{default:g}" if isinstance(default, float) else str(default)
    shown = described(info).shown or said
    if described(info).metavar == "SIZE":
        shown = size(default)
    return f"{text} [{shown}]"


def size(value: int) -> str:
    """Bytes in the largest unit that divides them: ``256MiB``."""
    for unit, bits in (("GiB", 30), ("MiB", 20), ("KiB", 10)):
        if value % (1 << bits) == 0:
            return f"{value >> bits}{unit}"
    return str(value)


def _entry(left: str, text: str) -> list[str]:
    lines = textwrap.wrap(text, WIDTH - COLUMN, break_on_hyphens=False) or [""]
    head = f"  {left}"
    if len(head) > COLUMN - 2 and text:
        return [head, *(" " * COLUMN + line for line in lines)]
    return [f"{head:<{COLUMN}}{lines[0]}".rstrip(), *(" " * COLUMN + line for line in lines[1:])]
