"""Read a command's options: from the command line, else the environment, else the default.

`--round-timeout` is FLOPS_ROUND_TIMEOUT in the environment. All options that are wrong are
reported together.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from pydantic import ValidationError

from flops_fl.errors import UsageError
from flops_fl.options.common import Options

T = TypeVar("T", bound=Options)


def parse(
    cls: type[T],
    prog: str,
    description: str,
    argv: Sequence[str] | None = None,
    environ: Mapping[str, str] = os.environ,
) -> T:
    """Read options from the command line and the environment.

    Raises:
        UsageError: at least one is wrong; the message names all that are.
        SystemExit: 0, after ``--help``.
    """
    parser = _parser(cls, prog, description)
    problems: list[str] = []
    given: dict[str, Any] | None
    try:
        known, unknown = parser.parse_known_args(sys.argv[1:] if argv is None else list(argv))
        problems += [f"{item}: no such option" for item in unknown]
        given = {name: value for name, value in vars(known).items() if value is not None}
    except argparse.ArgumentError as error:
        problems.append(f"{error.argument_name}: {error.message}")
        given = None
    try:
        options = cls(**(_from_environment(cls, environ) | (given or {})))
    except ValidationError as error:
        # After a broken command line, what seems to be missing may have been there.
        wrong = [e for e in error.errors() if given is not None or e["type"] != "missing"]
        problems += [_sentence(cls, e) for e in wrong]
    if problems:
        raise UsageError("; ".join(problems) + f". See {prog} --help")
    return options


def build(cls: type[T], values: Mapping[str, Any]) -> T:
    """Options from values that did not come from a command line.

    Raises:
        UsageError: at least one is wrong; the message names all that are.
    """
    try:
        return cls(**values)
    except ValidationError as error:
        raise UsageError("; ".join(_sentence(cls, e) for e in error.errors())) from None


def _parser(cls: type[Options], prog: str, description: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=prog,
        description=description,
        epilog="Each option may be set by an environment variable: --some-option by "
        "FLOPS_SOME_OPTION.",
        exit_on_error=False,
        allow_abbrev=False,
    )
    for name, info in cls.model_fields.items():
        text = (info.description or "").replace("%", "%%")
        if (
            not info.is_required()
            and info.default not in (None, False)
            and not info.default_factory
        ):
            text += f" (default: {info.default})"
        flag, extra = _flag(name), info.json_schema_extra
        key = info.alias or name
        if isinstance(extra, dict) and extra.get("positional"):
            parser.add_argument(key, nargs="?", metavar=name.upper(), help=text)
        elif info.annotation is bool:
            parser.add_argument(flag, dest=key, action="store_true", default=None, help=text)
        else:
            action = "append" if name in ("strategy_option", "data_tags", "learner_id") else "store"
            metavar = name.rpartition("_")[2].upper()
            parser.add_argument(flag, dest=key, action=action, metavar=metavar, help=text)
    return parser


def _flag(name: str) -> str:
    return "--" + name.rstrip("_").replace("_", "-")


def _from_environment(cls: type[Options], environ: Mapping[str, str]) -> dict[str, Any]:
    names = {(info.alias or name): name.rstrip("_") for name, info in cls.model_fields.items()}
    found = {key: environ.get(f"FLOPS_{name.upper()}") for key, name in names.items()}
    return {key: value for key, value in found.items() if value}


def _sentence(cls: type[Options], error: Any) -> str:
    message = error["msg"].removeprefix("Value error, ")
    if not error["loc"]:
        return str(message)
    name = str(error["loc"][0])
    info = cls.model_fields.get(name)
    positional = info and isinstance(info.json_schema_extra, dict)
    flag = name.upper() if positional else _flag(name)
    if error["type"] == "missing":
        return f"{flag} is missing: {info.description if info else message}"
    value = error["input"]
    shown = ",".join(map(str, value)) if isinstance(value, list) else value
    return f"{flag} {shown}: {message[0].lower()}{message[1:]}"
