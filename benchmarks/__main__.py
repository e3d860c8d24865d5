"""Run benchmarks: `python -m benchmarks NAME... [--json FILE]`; `all` runs every one."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table as RichTable

from benchmarks.harness import Table, machine
from benchmarks.report import shown, write_report
from benchmarks.rows import ALL


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "names", nargs="*", choices=[*ALL, "all"], help="benchmarks to run; default: all"
    )
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    parser.add_argument(
        "--report", type=Path, help="write a Markdown page to this file, and a picture next to it"
    )
    parser.add_argument("--repeat", type=int, default=3, help="number of runs, or rounds, of each")
    parser.add_argument(
        "--quick", action="store_true", help="few rounds, only to see that all works"
    )
    options = parser.parse_args()
    names = list(ALL) if not options.names or "all" in options.names else options.names
    tables = [table for name in names for table in ALL[name](options.repeat, options.quick)]
    document = {"machine": machine(), "tables": [table.document() for table in tables]}
    if options.json:
        options.json.write_text(json.dumps(document, indent=2) + "\n")
    if options.report:
        write_report(document, options.report)
    _print(tables, document)
    return 0


def _print(tables: list[Table], document: dict[str, Any]) -> None:
    console = Console()
    for table in document["tables"]:
        grid = RichTable(*shown(table)[0], title=table["title"], title_justify="left")
        for row in shown(table)[1:]:
            grid.add_row(*row)
        console.print(grid)
    console.print(", ".join(f"{key} {value}" for key, value in document["machine"].items()))


if __name__ == "__main__":
    sys.exit(main())
