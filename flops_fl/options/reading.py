"""Read a command's options: from the command line, else the environment, else the default.

`--round-timeout` is FLOPS_ROUND_TIMEOUT in the environment. All options that are wrong are
reported together.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Collection, Iterator, Mapping, Sequence
from difflib import get_close_matches
from importlib import import_module
from typing import Any, TypeVar

from pydantic import ValidationError

from flops_fl import __version__
from flops_fl.errors import UsageError
from flops_fl.options.common import TRUE, Options
from flops_fl.options.described import described, flag, variable
from flops_fl.options.help import HELP_ALL, help_text
from flops_fl.text import without_login

log = logging.getLogger(__name__)

T = TypeVar("T", bound=Options)

HELP = ("-h", "--help", HELP_ALL)

_MODULES = (
    "aggregator",
    "learner",
    "federation",
    "data",
    "use",
    "plan",
    "project",
    "pki",
    "images",
    "completion",
)
_CLOSE = 0.9  # how similar a name of this command is, so that no other command's is meant, of 1
_ALMOST = 0.95  # how similar names are of which one is mistaken for the other, of 1
_NO_VALUE = "\0"  # stands for a missing value; no command line can contain it


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
        SystemExit: 0, after ``--help`` and its like.
    """
    argv = sys.argv[1:] if argv is None else list(argv)
    _inform(cls, prog, description, argv)
    problems: list[str] = []
    values: dict[str, Any] = {}
    try:
        given, unknown = _parser(cls).parse_known_args(argv)
    except argparse.ArgumentError as error:  # a switch that was given a value
        value = error.message.partition("argument ")[2]
        value = without_login(value.strip("'"))
        problems.append(f"{error.argument_name}: a switch, which takes no value such as {value!r}")
        read = False
    else:
        problems += [_stranger(cls, item) for item in unknown]
        if unknown and cls.rest:
            problems.append(f"the program goes last: {cls.rest}")
        values = {key: value for key, value in vars(given).items() if value is not None}
        read = True
    empty = {key for key, value in values.items() if _is_empty(value)}
    problems += [f"{_shown(cls, key)}: expected a value" for key in sorted(empty)]
    values = {key: value for key, value in values.items() if key not in empty}
    sources = _sources(cls, environ)
    meant = cls.meant({key: environ[name] for key, name in sources.items()}, values)
    sources = {key: name for key, name in sources.items() if key in meant and key not in values}
    told = [f"{name}={without_login(environ[name])}" for name in sources.values()]
    try:
        options = cls(**(meant | values))
    except ValidationError as error:
        # After a broken command line, what seems to be missing may have been there.
        problems += [
            _sentence(cls, e, sources)
            for e in error.errors()
            if e["loc"][:1] not in {(key,) for key in empty} and (read or e["type"] != "missing")
        ]
    if problems:
        unseen = [item for item in told if not any(item in problem for problem in problems)]
        used = f" (from the environment: {', '.join(unseen)})" if unseen else ""
        raise UsageError("; ".join(problems) + f"{used}. See {prog} --help")
    if told and not getattr(options, "quiet", False):
        log.info("from the environment: %s", ", ".join(told))
    return options


def build(cls: type[T], values: Mapping[str, Any]) -> T:
    """Options from values that did not come from a command line.

    Raises:
        UsageError: at least one is wrong; the message names all that are.
    """
    try:
        return cls(**values)
    except ValidationError as error:
        raise UsageError("; ".join(_sentence(cls, e, {}) for e in error.errors())) from None


def _inform(cls: type[Options], prog: str, description: str, argv: Sequence[str]) -> None:
    if "--version" in argv:
        print_version()
        raise SystemExit(0)
    if set(HELP) & set(argv):
        everything = HELP_ALL in argv
        sys.stdout.write(help_text(cls, prog, description, everything=everything))
        raise SystemExit(0)


def print_version() -> None:
    """Print the version of flops-fl."""
    sys.stdout.write(f"flops-fl {__version__}\n")


def asks_for_json(
    cls: type[Options], argv: Sequence[str], environ: Mapping[str, str] = os.environ
) -> bool:
    """Whether the answer is to be JSON, even if the options are wrong."""
    name = "json_"
    said = "--json" in argv or environ.get(variable(name), "").lower() in TRUE
    return said and (name in cls.model_fields or "--json" in argv)


def _parser(cls: type[Options]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(add_help=False, exit_on_error=False, allow_abbrev=False)
    for name, info in cls.model_fields.items():
        about, key = described(info), info.alias or name
        flags = [flag(name)] + ([f"--{about.formerly}"] if about.formerly else [])
        if about.positional:
            parser.add_argument(key, nargs="?")
        elif info.annotation is bool:
            parser.add_argument(*flags, dest=key, action="store_const", const="true")
        else:
            action = "append" if about.repeated else "store"
            parser.add_argument(*flags, dest=key, action=action, nargs="?", const=_NO_VALUE)
    return parser


def _is_empty(value: str | list[str]) -> bool:
    """Whether a value is missing. An empty one is, too: a shell's variable that is not set."""
    items = [value] if isinstance(value, str) else value
    return any(item in ("", _NO_VALUE) for item in items)


def _shown(cls: type[Options], key: str) -> str:
    """An option's name for messages."""
    info = cls.model_fields.get(key)
    metavar = described(info).metavar if info and described(info).positional else ""
    return metavar or flag(key)


def _stranger(cls: type[Options], item: str) -> str:
    if not item.startswith("-"):
        return f"{without_login(item)}: not expected"
    known = [flag(name) for name in cls.model_fields]
    name, equals, value = item.partition("=")
    return f"{name}{equals}{without_login(value)}: no such option{similar(name, known)}"


def similar(name: str, known: Sequence[str], least: float = 0.6) -> str:
    """A question that names the most similar known name, if one is at least so similar (0 to 1)."""
    meant = nearest(name, known, least)
    return f" (did you mean {meant}?)" if meant else ""


def nearest(name: str, known: Sequence[str], least: float = 0.6) -> str:
    """The most similar known name; empty if none is so similar (0 to 1)."""
    return next(iter(get_close_matches(name, known, 1, least)), "")


def _sources(cls: type[Options], environ: Mapping[str, str]) -> dict[str, str]:
    """For each option that the environment sets, the name of the variable."""
    found: dict[str, str] = {}
    for name, info in cls.model_fields.items():
        for said in (name, described(info).formerly):
            if said and environ.get(variable(said)):
                found.setdefault(info.alias or name, variable(said))
    known = {variable(name) for name in cls.model_fields}
    if any(name.startswith("FLOPS_") and name not in known for name in environ):
        _name_strangers(known, environ)
    return found


def _name_strangers(own: Collection[str], environ: Mapping[str, str]) -> None:
    """Warn of variables that no command knows, so that none is ignored in silence.

    Also of those that only another command knows, if they are almost those of this one.
    """
    known = sorted({variable(name) for cls in _all_options() for name in cls.model_fields})
    for name in sorted(environ):
        if not name.startswith("FLOPS_") or name in own:
            continue
        if name not in known:
            meant = similar(name, sorted(own), _CLOSE) or similar(name, known)
            log.warning("%s is no option of any command%s", name, meant)
        elif meant := similar(name, sorted(own), _ALMOST):
            log.warning("%s is an option of another command%s", name, meant)


def _all_options() -> Iterator[type[Options]]:
    for module in _MODULES:
        for value in vars(import_module(f"flops_fl.options.{module}")).values():
            if isinstance(value, type) and issubclass(value, Options):
                yield value


def _sentence(cls: type[Options], error: Any, sources: Mapping[str, str]) -> str:
    """What is wrong; `sources` are the variables that gave options their values."""
    message = error["msg"].removeprefix("Value error, ").removeprefix("Input ").partition(", un")[0]
    if not error["loc"]:
        return str(message)
    key = str(error["loc"][0])
    info = cls.model_fields.get(key)
    shown = _shown(cls, key)
    if error["type"] == "missing":
        return f"{shown} is missing: {info.description if info else message}"
    value = error["input"]
    text = ",".join(map(str, value)) if isinstance(value, list) else str(value)
    before = f"{sources[key]}=" if key in sources else f"{shown} "
    return f"{before}{without_login(text)}: {message[0].lower()}{message[1:]}"
