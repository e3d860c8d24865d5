"""Looks at data: which columns a model can learn from, which one to predict, and their shapes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from flops_fl.data.folder import load_folder
from flops_fl.errors import DataError, UsageError
from flops_fl.text import some

NAMES = ("label", "labels", "target", "class", "y", "category")
MOST_LABELS = 1000
LOOKED_AT = 100  # rows whose arrays are compared


@dataclass(frozen=True, kw_only=True, slots=True)
class Features:
    """What a model for some data needs to know of them."""

    label: str
    labels: Sequence[int | str | bool]
    column: str = ""
    """The column of images or other arrays; empty if each column is a number."""
    shape: tuple[int, ...] = ()
    """Of an array, or the number of columns."""
    scale: int = 1
    """By what values are divided."""
    pictures: bool = False
    """Whether the column has files of images, which Pillow decodes."""
    left_out: Sequence[str] = ()
    """Columns that are neither used nor predicted."""

    @property
    def inputs(self) -> int:
        return math.prod(self.shape)


DIGITS = Features(
    label="label", labels=range(10), column="image", shape=(8, 8), scale=255, pictures=True
)
"""Those of ``flops-fl data partition digits``."""


def look_at(path: Path, label: str | None) -> Features:
    """The features of the data at a path.

    Raises:
        DataError: there are no data.
        UsageError: no model can be made for them.
    """
    dataset = load_folder(path)
    kinds: Mapping[str, Any] = dataset.features
    label = _label(kinds, label, path)
    labels = _labels(dataset, label)
    others = [name for name in kinds if name != label]
    arrays = [name for name in others if _is_array(kinds[name])]
    if arrays:
        column = arrays[0]
        left_out = [name for name in others if name != column]
        shape, scale = _shape(dataset, column)
        return Features(
            label=label, labels=labels, column=column, shape=shape, scale=scale,
            pictures=type(kinds[column]).__name__ == "Image", left_out=left_out,
        )  # fmt: skip
    numbers = [name for name in others if _is_number(kinds[name])]
    if not numbers:
        raise UsageError(
            f"{path} has no column of numbers or images besides {label!r}, but {some(others)}: "
            "convert them to numbers first"
        )
    left_out = [name for name in others if name not in numbers]
    return Features(label=label, labels=labels, shape=(len(numbers),), left_out=left_out)


def _label(kinds: Mapping[str, Any], asked: str | None, path: Path) -> str:
    """The column to predict."""
    if asked is not None:
        if asked not in kinds:
            raise UsageError(f"--label {asked}: {path} has the columns {', '.join(kinds)}")
        return asked
    classes = [name for name in kinds if type(kinds[name]).__name__ == "ClassLabel"]
    named = [name for name in kinds if name.lower() in NAMES]
    found = named or classes
    if len(found) != 1 and not (named and classes[:1] == named[:1]):
        raise UsageError(
            f"which column of {path} is to be predicted? Say --label with one of "
            f"{', '.join(found or kinds)}"
        )
    return found[0]


def _labels(dataset: Any, label: str) -> Sequence[int | str | bool]:
    """The values to predict."""
    kind = dataset.features[label]
    if type(kind).__name__ == "ClassLabel":
        return range(kind.num_classes)
    found = dataset.unique(label)
    if str(getattr(kind, "dtype", "")).startswith(("float", "double", "decimal")):
        raise UsageError(
            f"the column {label!r} has numbers such as {found[0]!r}, not classes, and init writes "
            "classifiers only: choose a column of integers or texts with --label, or begin with a "
            "classifier and write your own model and loss into it (docs/ml-repositories.md)"
        )
    if not all(isinstance(value, int | str) for value in found) or len(found) > MOST_LABELS:
        raise UsageError(
            f"the column {label!r} has {len(found)} values such as {found[0]!r}: expected at most "
            f"{MOST_LABELS} classes, as integers or texts, since init writes classifiers only. "
            "Choose another one with --label"
        )
    values = sorted(found)
    return range(len(values)) if values == list(range(len(values))) else values


def _is_array(kind: Any) -> bool:
    name = type(kind).__name__
    if name in ("List", "LargeList", "Sequence"):
        return _is_array(kind.feature) or _is_number(kind.feature)
    return name in ("Image", "Array2D", "Array3D", "Array4D", "Array5D")


def _is_number(kind: Any) -> bool:
    return str(getattr(kind, "dtype", "")).startswith(("int", "uint", "float", "bool", "double"))


def _shape(dataset: Any, column: str) -> tuple[tuple[int, ...], int]:
    """The shape of the arrays in a column, and by what to divide them."""
    rows = dataset.select(range(min(len(dataset), LOOKED_AT))).with_format("numpy")
    arrays = [np.asarray(value) for value in rows[column]]
    shapes = {array.shape for array in arrays}
    if len(shapes) > 1 or arrays[0].dtype == object:
        raise DataError(
            f"the arrays in {column!r} differ in shape ({some([str(each) for each in shapes])}): "
            "give them one, such as by flops-fl data partition --resize N"
        )
    is_bytes = arrays[0].dtype == np.uint8 or max(float(array.max()) for array in arrays) > 1.5
    return shapes.pop(), 255 if is_bytes and arrays[0].dtype.kind in "iu" else 1
