"""`flops-fl plan`: whether clusters would pay, calculated before there is a federation."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import TextIO

from rich.console import Console
from rich.table import Table

from flops_fl.core.forecast import Forecast, Link, Work, forecast, layouts
from flops_fl.options.plan import PlanOptions
from flops_fl.text import amount, counted

MOST_LEVELS = 3


def plan(options: PlanOptions, stdout: TextIO) -> None:
    """Print a round's time and traffic, flat and with one to three levels of clusters."""
    learners = Link(up=options.uplink, down=options.downlink)
    aggregators = Link(
        up=options.aggregator_uplink or learners.up,
        down=options.aggregator_downlink or learners.down,
    )
    work = Work(model=options.model_bytes, seconds=options.fit, cycle=options.cluster_rounds)
    found = [
        forecast(levels, work, aggregators, learners)
        for levels in layouts(options.learners, options.clusters, MOST_LEVELS)
    ]
    if options.json_:
        stdout.write(json.dumps([asdict(each) for each in found], indent=2) + "\n")
    else:
        Console(file=stdout).print(_table(found))


def _table(found: Sequence[Forecast]) -> Table:
    columns: dict[str, Callable[[Forecast], str]] = {
        "takes": lambda each: _time(each.seconds),
        "root sends": lambda each: amount(each.root_sends),
        "root receives": lambda each: amount(each.root_receives),
        "all links": lambda each: amount(each.all_links),
    }
    if any(each.rounds > 1 for each in found):
        columns = {"trained": lambda each: counted(each.rounds, "round"), **columns}
    table = Table("levels", caption="one round of the root, calculated: see docs/hierarchy.md")
    for title in columns:
        table.add_column(title, justify="right", no_wrap=True)
    for each in found:
        levels = " > ".join(f"{count:,}" for count in each.levels)
        table.add_row(levels, *(said(each) for said in columns.values()))
    return table


def _time(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.3g} s"
    return f"{seconds / 60:.1f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
