"""The figures as Markdown, and as a picture."""

from __future__ import annotations

from pathlib import Path
from typing import Any

PICTURE = "benchmarks.png"
IN_PICTURE = ("overhead", "bulk", "stragglers", "simulate")


def shown(table: dict[str, Any]) -> list[list[str]]:
    """The cells of a table as text; the first row is the heading."""
    first = next((row for row in table["rows"] if row["median"]), None)
    out = [["", "median", "min", "max", "to the first"]]
    for row in table["rows"]:
        if row["median"] is None:
            out.append([row["who"], f"missing: {row['missing']}", "", "", ""])
            continue
        unit = "" if row["unit"] == "s" else f" {row['unit']}"
        cells = [f"{_figure(value)}{unit}" for value in (row["median"], *_ends(row["values"]))]
        alike = first is not None and row["unit"] == first["unit"]
        ratio = f"{_figure(row['median'] / first['median'])} x" if first and alike else ""
        out.append([row["who"], *cells, ratio])
    return out


def _ends(values: list[float]) -> tuple[float, float]:
    return min(values), max(values)


def _figure(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def write_report(document: dict[str, Any], path: Path) -> None:
    """Write the page to `path`, and a picture next to it."""
    lines = [
        "# Benchmarks",
        "",
        "`make bench` made this page. It measured all contestants in one run, on loopback.",
        "",
    ]
    lines += [", ".join(f"{key} {value}" for key, value in document["machine"].items()) + ".", ""]
    lines += [f"![Seconds by contestant]({PICTURE})", ""]
    for table in document["tables"]:
        rows = shown(table)
        lines += [f"## {table['title'][0].upper()}{table['title'][1:]}", ""]
        lines += [_line(rows[0]), _line(["---"] * len(rows[0])), *map(_line, rows[1:]), ""]
    path.write_text("\n".join(lines).rstrip() + "\n")
    _draw(document, path.with_name(PICTURE))


def _line(cells: list[str]) -> str:
    return "| " + " | ".join(cell.replace("\n", " ").replace("|", "/") for cell in cells) + " |"


def _draw(document: dict[str, Any], path: Path) -> None:
    from matplotlib.figure import Figure

    tables = [table for table in document["tables"] if table["name"] in IN_PICTURE]
    if not tables:
        return
    figure = Figure(figsize=(9, 1.9 * len(tables)), layout="constrained")
    for axis, table in zip(figure.subplots(len(tables), squeeze=False)[:, 0], tables, strict=True):
        rows = [row for row in table["rows"] if row["median"] is not None][::-1]
        colours = ["#1f77b4" if "flops-fl" in row["who"] else "#bbbbbb" for row in rows]
        medians = [row["median"] for row in rows]
        bars = axis.barh([row["who"] for row in rows], medians, color=colours)
        axis.bar_label(bars, [f" {_figure(value)} s" for value in medians], fontsize=8)
        axis.set_xscale("log")
        axis.set_title(table["title"], fontsize=9, loc="left")
        axis.margins(x=0.2)
        axis.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=110)
