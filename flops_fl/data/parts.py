"""Writes the parts of a dataset as Parquet files: all of them, or none.

Every file is first written under a hidden temporary name. The files get their real names once
all are written and no other file has their tags. So a learner never reads half a file, and an
error leaves existing files as they were.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flops_fl.data.folder import is_data_file
from flops_fl.data.names import check_tag, has_tag
from flops_fl.errors import DataError, UsageError

_GROUP = 1000  # rows in memory at a time, and in a Parquet row group: 30 MB at 30 KB an image


@dataclass(frozen=True, slots=True)
class Part:
    """Rows to write as ``FOLDER/STEM<hash>.parquet``."""

    folder: Path
    stem: str
    rows: NDArray[np.int64]


def check_tags(tags: Sequence[str]) -> None:
    """Refuse tags that cannot be in a file's name or that match each other's files.

    Raises:
        UsageError: A tag is not usable; the message says why.
    """
    if not tags:
        raise UsageError("no tags: expected one for each part")
    for tag in tags:
        check_tag(tag)
    # Sorted by their dotted parts, a tag comes right after the one that it extends.
    ordered = sorted(tags, key=lambda tag: tag.split("."))
    for shorter, longer in pairwise(ordered):
        if has_tag(f"{longer}.", [shorter]):
            raise UsageError(f"tag '{shorter}' also matches files of tag '{longer}': rename one")


def write_parts(
    dataset: Any,
    parts: Sequence[Part],
    *,
    tags: Sequence[str],
    folders: Sequence[Path],
    remedy: str = "choose another --out",
) -> list[Path]:
    """Write each part of the dataset; return the paths in order. Existing folders are kept.

    Args:
        dataset: A `datasets.Dataset`.
        parts: The rows to write and where.
        tags: The tags of the new files.
        folders: Folders that must not hold other files of these tags, since a learner would load
            them together with the new ones.
        remedy: What a person can do where they cannot be written.

    Raises:
        DataError: There are such files, or a folder cannot be written to.
    """
    schema = schema_of(dataset)
    plain = dataset.with_format("arrow")
    try:
        with ExitStack() as cleanup:
            staged = [_stage(plain, schema, part, cleanup) for part in parts]
            _refuse_others([path for _, path in staged], tags, folders)
            for temporary, path in staged:
                os.replace(temporary, path)
    except OSError as error:
        where = folders[0].parent if len(folders) > 1 else folders[0]
        raise DataError(f"cannot write the parts to {where} ({error}): {remedy}") from error
    return [path for _, path in staged]


def _stage(dataset: Any, schema: Any, part: Part, cleanup: ExitStack) -> tuple[Path, Path]:
    """Write a part under a temporary name; returns that name and its final one."""
    part.folder.mkdir(parents=True, exist_ok=True)
    temporary = part.folder / f".{part.stem}{os.getpid()}.tmp"
    cleanup.callback(temporary.unlink, missing_ok=True)
    _write_parquet(dataset, schema, part.rows, temporary)
    with temporary.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return temporary, part.folder / f"{part.stem}{digest[:8]}.parquet"


def _write_parquet(dataset: Any, schema: Any, rows: NDArray[np.int64], path: Path) -> None:
    import pyarrow.parquet as pq

    with pq.ParquetWriter(path, schema) as writer:
        for table in tables_of(dataset, rows):
            writer.write_table(table)


def schema_of(dataset: Any) -> Any:
    """The Arrow schema of a dataset's features.

    Other metadata, such as pandas', depends on the tool that wrote the source.
    """
    from datasets import Features

    return Features(dataset.features).arrow_schema


def tables_of(dataset: Any, rows: NDArray[np.int64] | None = None) -> Iterator[Any]:
    """A dataset's rows, by their numbers or all, in tables of `_GROUP` rows."""
    from datasets.table import embed_table_storage

    schema, plain = schema_of(dataset), dataset.with_format("arrow")
    for start in range(0, len(dataset) if rows is None else len(rows), _GROUP):
        cut = slice(start, start + _GROUP)
        table = plain[cut if rows is None else rows[cut].tolist()]  # a list makes a chunk a row
        # Embed images that the dataset only points to, since the file will be copied elsewhere.
        yield embed_table_storage(table.select(schema.names).cast(schema))


def _refuse_others(new: Sequence[Path], tags: Sequence[str], folders: Sequence[Path]) -> None:
    for folder in folders:
        for path in sorted(folder.iterdir()) if folder.is_dir() else ():
            if is_data_file(path) and has_tag(path.name, tags) and path not in new:
                raise DataError(
                    f"{path} is there already, and a learner would load it together with the "
                    "new files of its tag: choose another --out, or remove it"
                )
