"""Options as the words of a command line, the reverse of `reading`."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from flops_fl.net.target import Target
from flops_fl.options.common import Options
from flops_fl.options.described import described, flag
from flops_fl.text import without_secrets


def words(options: Options) -> list[str]:
    """What a person would type for these options, without those that have their defaults.

    Paths in the working folder begin there. Passwords are left out.
    """
    fields = type(options).model_fields
    said = {name: getattr(options, name) for name in fields if name in options.model_fields_set}
    places = [name for name in said if described(fields[name]).positional]
    out = [_text(said[name]) for name in places]
    for name, value in said.items():
        if name not in places and value != fields[name].get_default(call_default_factory=True):
            several = described(fields[name]).repeated and isinstance(value, list)
            for each in value if several else [value]:
                out += _option(flag(name), each)
    return out


def spelled(values: Mapping[str, Any]) -> list[str]:
    """Values by the names of their options, as words; switches that are off are left out."""
    on = {name: value for name, value in values.items() if value is not False}
    return [word for name, value in on.items() for word in _option(flag(name), value)]


def _option(name: str, value: Any) -> Iterator[str]:
    if value is True:
        yield name
    elif isinstance(value, Mapping):
        for key, each in value.items():
            yield from (name, f"{key}={_text(each)}")
    else:
        yield from (name, _text(value))


def _text(value: Any) -> str:
    if isinstance(value, list | tuple):
        return ",".join(map(_text, value))
    if value == sys.maxsize:
        return "all"
    if isinstance(value, Path) and value.is_relative_to(Path.cwd()):
        return str(value.relative_to(Path.cwd()))
    if isinstance(value, Target) and value.user is not None:
        return str(value).replace("://", f"://{value.user}@", 1)
    return without_secrets(str(value))
