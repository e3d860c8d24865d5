"""`flops-fl data partition`: cuts a dataset into one folder of local data for each learner."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from flops_fl.data.files import schema_in
from flops_fl.data.folder import choose_files, is_saved
from flops_fl.data.partition import Rows, partition, require_column
from flops_fl.data.parts import Part, check_tags, write_parts
from flops_fl.data.schemes import Scheme, parse_scheme
from flops_fl.data.sources import load_source, path_of
from flops_fl.data.split import Split, draw_split, split_of, table
from flops_fl.errors import UsageError
from flops_fl.process.drawing import asked_for, require_drawing
from flops_fl.text import numbered

log = logging.getLogger(__name__)


def partition_command(
    source: str,
    parts: int,
    tag: str,
    out: Path,
    *,
    scheme: str = "iid",
    seed: int = 0,
    label: str = "label",
    resize: int | None = None,
    picture: Path | None = None,
) -> list[Path]:
    """Write part i of a source as ``OUT/part-<i>/TAG.<i>-<hash>.parquet``; return the paths.

    Learner 0 of at most ten then trains with ``--data OUT/part-0 --data-tags TAG``. All
    indices have as many digits as the last one. The same arguments give the same files.

    Args:
        source: See `flops_fl.data.sources.load_source`.
        parts: The number of learners.
        tag: The data tag of every file.
        out: The folder for the parts' folders, created if it is missing.
        scheme: See `flops_fl.data.partition.partition`.
        seed: Of the shuffle and the random draws.
        label: The column of classes, for `scheme` and the table.
        resize: New width and height of images in pixels; None: unchanged.
        picture: Where to draw how the labels are split; None: nowhere.

    Raises:
        UsageError: An option or the source is not usable.
        DataError: The data is not usable, or `out` already holds other files of this tag.
    """
    dataset, cut = cut_source(
        source, parts, tag, scheme=scheme, seed=seed, label=label, resize=resize, picture=picture
    )
    planned = [Part(out / f"part-{index}", f"{tag}.{index}-", rows) for index, rows in cut.items()]
    # Also check folders of an earlier run with more parts: OUT holds one partition of the data.
    earlier = [path for path in out.glob("part-*") if path.is_dir()]
    folders = sorted({part.folder for part in planned}.union(earlier))
    return write_parts(dataset, planned, tags=[tag], folders=folders)


def cut_source(
    source: str,
    parts: int,
    tag: str,
    *,
    scheme: str,
    seed: int,
    label: str,
    resize: int | None,
    picture: Path | None = None,
) -> tuple[Any, dict[str, Rows]]:
    """Load a source and cut it: the dataset, and each part's rows by its index.

    The log gets a table of the split by labels.

    Args:
        picture: Where to draw the split.

    Raises:
        UsageError, DataError: see `partition_command`.
    """
    check_tags([tag])
    _require_columns(source, parse_scheme(scheme), label)
    if parts < 1:
        raise UsageError(f"--parts {parts}: expected at least 1")
    if picture is not None:
        require_drawing()  # before minutes of reading
    dataset = load_source(source, resize=resize)
    cut = partition(dataset, parts, scheme=scheme, seed=seed, label=label)
    named = dict(zip(numbered("", parts), cut, strict=True))
    split = split_of(dataset, named, label)
    for line in table(split) if split else [_no_table(label, dataset.column_names)]:
        log.info("%s", line)
    if picture is not None:
        _draw(split, picture, f"{source}, {parts} parts, {scheme}", label, dataset)
    return dataset, named


def _require_columns(source: str, scheme: Scheme, label: str) -> None:
    """Check the columns that a scheme needs before minutes of reading, where that is quick.

    Raises:
        DataError: one is missing.
    """
    path = path_of(source)
    if scheme.kind in ("iid", "linear") or path is None or is_saved(path):
        return
    names = schema_in(choose_files(path, [])[0]).names
    if scheme.kind == "column":
        require_column(scheme.column, names, f"column:{scheme.column}")
    else:
        require_column(label, names, scheme.kind)


def _no_table(label: str, names: Sequence[str]) -> str:
    why = f"column '{label}' has no classes" if label in names else f"there is no column '{label}'"
    return f"no table of the split, since {why}: --label names another"


def _draw(split: Split | None, path: Path, title: str, label: str, dataset: Any) -> None:
    if split is None:
        raise UsageError(
            f"--picture {path} needs a column '{label}' of classes: the columns are "
            f"{', '.join(dataset.column_names)}, see --label"
        )
    with asked_for(path):
        draw_split(split, path, title)
