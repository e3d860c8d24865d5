"""Write docs/options.md from the options' own descriptions: python docs/make/options.py.

A test compares the page with what this gives.
"""

from __future__ import annotations

import re
from itertools import groupby
from pathlib import Path

from pydantic.fields import FieldInfo

from flops_fl.options.described import GROUPS, REQUIRED, described, flag
from flops_fl.options.help import choices_of, text_of
from flops_fl.table import COMMANDS, Command

PAGE = Path(__file__).parents[1] / "options.md"
HEAD = """# Options

All options of all commands, as `--help-all` has them. `docs/make/options.py` writes this page.
`python -m aggregator` and `python -m learner` are `flops-fl aggregator` and `flops-fl learner`.

An option is taken from the command line, else from the environment, else it has its default. In the
environment `--round-timeout 600` is `FLOPS_ROUND_TIMEOUT=600`. An option that may be repeated takes
several values with commas in between, too (but for `--data` of `flops-fl project`, where they stand
between the servers of one learner). Defaults are in brackets. Times are seconds. Sizes are bytes,
or `256MiB`.
"""


def options_page() -> str:
    """The page, in Markdown."""
    return "\n".join([HEAD, *(_command(*command) for command in COMMANDS.items())])


def _command(name: str, command: Command) -> str:
    fields = command.options_class.model_fields.items()
    lines = [f"## flops-fl {name}", "", command.description, ""]
    entries = sorted(fields, key=lambda entry: GROUPS.index(_group(entry[1])))
    for group, members in groupby(entries, key=lambda entry: _group(entry[1])):
        lines += [f"| {group} | value | |", "| --- | --- | --- |"]
        lines += [*(_row(*member) for member in members), ""]
    return "\n".join(lines)


def _group(info: FieldInfo) -> str:
    return REQUIRED if info.is_required() else described(info).group


def _row(name: str, info: FieldInfo) -> str:
    about = described(info)
    values = [about.metavar] if about.metavar else choices_of(info.annotation)
    cells = [f"`{about.metavar if about.positional else flag(name)}`"]
    cells.append("" if about.positional else ", ".join(f"`{value}`" for value in values))
    text = re.sub(r"([|<*])", r"\\\1", text_of(info))
    return f"| {' | '.join(cells)} | {text} |"


if __name__ == "__main__":
    PAGE.write_text(options_page())
