"""`flops-fl data partition`: cuts a dataset into one folder of local data for each learner."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from flops_fl.data.partition import Rows, partition
from flops_fl.data.parts import Part, check_tags, write_parts
from flops_fl.data.schemes import parse_scheme
from flops_fl.data.sources import load_source
from flops_fl.data.split import Split, draw_split, split_of, table
from flops_fl.errors import UsageError
from flops_fl.process.drawing import require_drawing

log = logging.getLogger(__name__)


def partition_command(
    source: str,
    parts: int,
    tag: str,
    out: Path,
    *,
    scheme: str = "iid",
    seed: int = 0,
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
        resize: New width and height of images in pixels; None: unchanged.
        picture: Where to draw how the labels are split; None: nowhere.

    Raises:
        UsageError: An option or the source is not usable.
        DataError: The data is not usable, or `out` already holds other files of this tag.
    """
    dataset, cut = cut_source(
        source, parts, tag, scheme=scheme, seed=seed, resize=resize, picture=picture
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
    parse_scheme(scheme)
    if parts < 1:
        raise UsageError(f"--parts {parts}: expected at least 1")
    dataset = load_source(source, resize=resize)
    digits = len(str(parts - 1))
    cut = partition(dataset, parts, scheme=scheme, seed=seed)
    named = {f"{index:0{digits}}": rows for index, rows in enumerate(cut)}
    split = split_of(dataset, named)
    for line in table(split) if split else ():
        log.info("%s", line)
    if picture is not None:
        _draw(split, picture, f"{source}, {parts} parts, {scheme}", dataset)
    return dataset, named


def _draw(split: Split | None, path: Path, title: str, dataset: Any) -> None:
    require_drawing()
    if split is None:
        raise UsageError(
            f"--picture {path} needs a column 'label' of classes: the columns are "
            f"{', '.join(dataset.column_names)}"
        )
    try:
        draw_split(split, path, title)
    except OSError as error:
        raise UsageError(
            f"--picture {path} cannot be written ({error.strerror}): give another file"
        ) from None
