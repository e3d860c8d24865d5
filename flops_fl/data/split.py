"""How the labels of a dataset are split among learners: numbers, a table and a picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flops_fl.process.drawing import BLUE, figure, save
from flops_fl.text import counted

PARTS, CLASSES = 50, 20  # that a table has at most
MANY = 1000  # values of a column that is no column of classes
_NAMED = 60  # rows or columns of a picture that have their names beside them


@dataclass(frozen=True, slots=True)
class Split:
    """How many rows of each class each part has."""

    parts: Sequence[str]
    classes: Sequence[str]
    counts: NDArray[np.int64]
    """Rows with a label, by part and class."""
    sizes: Sequence[int]
    """All rows of each part."""


def split_of(
    dataset: Any, cut: Mapping[str, NDArray[np.int64]], label: str = "label"
) -> Split | None:
    """Count the labels of each part; None if the column is missing, or has no classes.

    Args:
        cut: The numbers of each part's rows.
    """
    found = _classes(dataset, label)
    if found is None:
        return None
    values, classes = found
    counts = [
        np.bincount(own[(own >= 0) & (own < len(classes))], minlength=len(classes))
        for own in (values[rows] for rows in cut.values())
    ]
    return Split(list(cut), classes, np.array(counts), [len(rows) for rows in cut.values()])


def _classes(dataset: Any, label: str) -> tuple[NDArray[np.int64], list[str]] | None:
    """The number of each row's class, -1 for none, and the classes' names."""
    import pyarrow as pa

    if label not in dataset.column_names:
        return None
    column = dataset.select_columns([label]).with_format("arrow")[:].column(label)
    names = getattr(dataset.features[label], "names", None)
    if names:
        return np.asarray(column.fill_null(-1), np.int64), list(names)
    kinds = (pa.types.is_integer, pa.types.is_boolean, pa.types.is_string)
    if not any(of(column.type) for of in kinds):
        return None
    known = sorted(value for value in column.unique().to_pylist() if value is not None)
    if not 0 < len(known) <= MANY:
        return None
    places = {value: place for place, value in enumerate(known)}
    values = np.array([places.get(value, -1) for value in column.to_pylist()], np.int64)
    return values, [str(value) for value in known]


def table(split: Split, part: str = "part") -> list[str]:
    """Lines of a table; if it would be too large, one line about the parts' sizes."""
    if len(split.classes) > CLASSES or len(split.parts) > PARTS:
        parts, classes = counted(len(split.parts), part), counted(len(split.classes), "label")
        most = f"{min(split.sizes)} to {max(split.sizes)} rows"
        return [f"{parts} of {most}, {classes}: too many for a table"]
    rows = [[part, "rows", *split.classes]]
    for name, size, counts in zip(split.parts, split.sizes, split.counts, strict=True):
        rows.append([name, str(size), *map(str, counts.tolist())])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(f"{c:>{w}}" for c, w in zip(r, widths, strict=True)) for r in rows]


def draw_split(split: Split, path: Path, title: str) -> None:
    """Draw the split as a map: a row for each part, a column for each class.

    Raises:
        OSError: the file cannot be written.
    """
    count, classes = split.counts.shape
    height = min(2.0 + 0.22 * count, 14.0)
    drawn = figure(min(4.0 + 0.45 * classes, 14.0), height)
    axes = drawn.subplots()
    drawn.subplots_adjust(left=0.24, right=0.98, top=1 - 0.45 / height, bottom=0.6 / height)
    image = axes.imshow(split.counts, aspect="auto", cmap="viridis", vmin=0)
    axes.set_title(title)
    if count <= _NAMED:
        names = [f"{n} ({s} rows)" for n, s in zip(split.parts, split.sizes, strict=True)]
        axes.set_yticks(range(count), names, fontsize=8)
    if classes <= _NAMED:
        slanted = 60 if max(map(len, split.classes)) > 4 else 0
        axes.set_xticks(range(classes), split.classes, fontsize=8, rotation=slanted)
    drawn.colorbar(image, ax=axes, label="rows")
    save(drawn, path)


def draw_histogram(labels: Mapping[str, int], path: Path, title: str) -> None:
    """Draw how often each value occurs as bars; the last one is all beyond `_NAMED` values.

    Raises:
        OSError: the file cannot be written.
    """
    shown = dict(list(labels.items())[:_NAMED])
    if more := len(labels) - len(shown):
        shown[f"{more} more"] = sum(list(labels.values())[_NAMED:])
    height = 1.2 + 0.25 * len(shown)
    drawn = figure(8, height)
    axes = drawn.subplots()
    drawn.subplots_adjust(left=0.24, right=0.95, top=1 - 0.45 / height, bottom=0.5 / height)
    bars = axes.barh(range(len(shown)), list(shown.values()), color=BLUE)
    axes.bar_label(bars, padding=3, fontsize=8)
    axes.set_yticks(range(len(shown)), [name[:30] for name in shown], fontsize=8)
    axes.set_ylim(len(shown) - 0.4, -0.6)  # from above, without a margin
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_title(title)
    axes.set_xlabel("rows")
    save(drawn, path)
