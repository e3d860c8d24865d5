"""`flops-fl data partition`: cuts a dataset into one folder of local data for each learner."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from flops_fl.data.partition import Rows, partition
from flops_fl.data.parts import Part, check_tags, write_parts
from flops_fl.data.schemes import parse_scheme
from flops_fl.data.sources import load_source
from flops_fl.errors import UsageError

log = logging.getLogger(__name__)

PARTS, CLASSES = 50, 20


def partition_command(
    source: str,
    parts: int,
    tag: str,
    out: Path,
    *,
    scheme: str = "iid",
    seed: int = 0,
    resize: int | None = None,
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
        resize: New width and height of images in pixels; None: unchanged.

    Raises:
        UsageError: An option or the source is not usable.
        DataError: The data is not usable, or `out` already holds other files of this tag.
    """
    dataset, cut = cut_source(source, parts, tag, scheme=scheme, seed=seed, resize=resize)
    planned = [Part(out / f"part-{index}", f"{tag}.{index}-", rows) for index, rows in cut.items()]
    # Also check folders of an earlier run with more parts: OUT holds one partition of the data.
    earlier = [path for path in out.glob("part-*") if path.is_dir()]
    folders = sorted({part.folder for part in planned}.union(earlier))
    return write_parts(dataset, planned, tags=[tag], folders=folders)


def cut_source(
    source: str, parts: int, tag: str, *, scheme: str, seed: int, resize: int | None
) -> tuple[Any, dict[str, Rows]]:
    """Load a source and cut it: the dataset, and each part's rows by its index.

    Raises:
        UsageError, DataError: see `partition_command`.
    """
    check_tags([tag])
    parse_scheme(scheme)
    if parts < 1:
        raise UsageError(f"--parts {parts}: expected at least 1")
    dataset = load_source(source, resize=resize)
    digits = len(str(parts - 1))
    cut = partition(dataset, parts, scheme=scheme, seed=seed)
    for line in split_table(dataset, cut):
        log.info("%s", line)
    return dataset, {f"{index:0{digits}}": rows for index, rows in enumerate(cut)}


def split_table(dataset: Any, cut: Sequence[Rows], label: str = "label") -> list[str]:
    """Lines of a table: how many rows of each class a part has; none without classes.

    Large tables are left out: more than `PARTS` parts, or `CLASSES` classes.
    """
    names = getattr(dataset.features.get(label), "names", None)
    if not names or len(names) > CLASSES or len(cut) > PARTS:
        return []
    values = np.asarray(dataset.with_format("arrow")[:].column(label).fill_null(-1))
    rows = [["part", "rows", *names]]
    for index, part in enumerate(cut):
        counts = np.bincount(values[part][values[part] >= 0], minlength=len(names))
        rows.append([str(index), str(len(part)), *map(str, counts.tolist())])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(f"{c:>{w}}" for c, w in zip(r, widths, strict=True)) for r in rows]
