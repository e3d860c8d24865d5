"""Loads a learner's local data from a folder of Parquet or Arrow files, chosen by tag.

A file named ``mnist.4f2a9c01.parquet`` has the tag ``mnist``, as on the ML data server of
FLOps. Loading converts no file and writes no cache, since data folders are often read-only and
shared by several learners.
"""

from __future__ import annotations

import hashlib
import json
import logging
import re
from collections import Counter
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from shlex import quote
from typing import Any

from flops_fl.data.files import read_table
from flops_fl.data.names import has_tag, tag_of, without_data
from flops_fl.data.tables import join_tables
from flops_fl.errors import DataError
from flops_fl.text import first_line

log = logging.getLogger(__name__)

DATASET = re.compile(r"digits|breast-cancer|fashion-mnist(?::.*)?|hf:[^/]+(?:/[^/]+)?")
"""Names of datasets, which are split and not read as they are."""
SUFFIXES = (".parquet", ".arrow", ".feather")
_TEXTS = {".csv": "from_csv", ".json": "from_json", ".jsonl": "from_json"}
_ABOUT = ("", ".md", ".rst", ".txt", ".pdf", ".html", ".yaml", ".yml", ".toml", ".py", ".ipynb")
_IMAGES = (".png", ".jpg", ".jpeg", ".gif", ".bmp", ".webp", ".tif", ".tiff")
_LOOKED_AT = 1000  # files in folders below, for a message
_SHOWN = 8  # names in a message; a folder may hold thousands


def load_folder(path: Path, tags: Sequence[str] = ()) -> Any:
    """Load local training data as one `datasets.Dataset` with eager columns.

    Args:
        path: A folder of ``*.parquet``, ``*.arrow``, ``*.feather`` files (Arrow IPC, stream
            or file format), one such file, or a folder from `Dataset.save_to_disk`.
        tags: Load only the files named ``TAG.<anything>`` for one of these; none: all files.

    Raises:
        DataError: There is no file, none with such a tag, one that cannot be read, not one row,
            or files that differ in their columns or features.
    """
    if is_saved(path):
        return _load_saved(path, tags)
    files = choose_files(path, tags)
    if missing := without_data(tags, [file.name for file in files]):
        log.warning("no file at %s has a tag among %s: the others are used", path, _some(missing))
    warn_of_others(path)
    named = [(str(file), read_table(file)) for file in files]
    return join_tables(named, fingerprint=_fingerprint(files))


def state_of_folder(path: Path, tags: Sequence[str] = ()) -> tuple[str, list[str]]:
    """The fingerprint that `load_folder` would give its dataset, and the names; reads no rows.

    Raises:
        DataError: see `load_folder`.
    """
    files = sorted(path.iterdir()) if is_saved(path) else choose_files(path, tags)
    return _fingerprint(files), [file.name for file in files]


def is_saved(path: Path) -> bool:
    """Whether this is a folder from `Dataset.save_to_disk`.

    Raises:
        DataError: there is nothing at this path, or a DatasetDict.
    """
    if not path.exists():
        named = re.search(rf"(?:^|/)({DATASET.pattern})$", str(path))
        remedy = (
            f"; to read the dataset {named[1]}, split it first: flops-fl data partition "
            f"{named[1]} --parts 2 --tag TAG --out parts, and give --data parts/part-0"
            if named
            else ""
        )
        raise DataError(f"the data path {path} does not exist: expected a folder or a file{remedy}")
    if (path / "dataset_dict.json").is_file():
        raise _split_needed(path)
    return (path / "state.json").is_file() and (path / "dataset_info.json").is_file()


def choose_files(path: Path, tags: Sequence[str]) -> list[Path]:
    """List the data files at `path` with one of `tags`, sorted by name; without tags, all.

    Raises:
        DataError: There is no data file, or none with such a tag.
    """
    if path.is_dir():
        entries = sorted(path.iterdir(), key=lambda entry: entry.name)
        files = [entry for entry in entries if is_data_file(entry)]
    else:
        entries, files = [], [path] if path.suffix in SUFFIXES else []
    if not files:
        folders = [e.name for e in entries if e.is_dir() and any(map(is_data_file, e.iterdir()))]
        hint = f"; point to one of its folders: {_some(folders)}" if folders else ""
        raise DataError(
            f"no data files at {path}: expected {', '.join(SUFFIXES)}{hint}{_instead(path)}"
        )
    chosen = [file for file in files if not tags or has_tag(file.name, tags)]
    if not chosen:
        there = sorted({tag_of(file.name) for file in files})
        raise DataError(
            f"no file at {path} has a tag among {_some(tags)}: the tags there are {_some(there)}; "
            "a file is named TAG.<anything>.parquet"
        )
    return chosen


def warn_of_others(path: Path) -> None:
    """Warn of what may be data in a folder, and is not read: other files, and folders below.

    Files that another program hides or that begin with ``_``, and texts about the data, are none.
    """
    if not path.is_dir():
        return
    others = [
        entry.name + "/" * entry.is_dir()
        for entry in sorted(path.iterdir(), key=lambda entry: entry.name)
        if not (is_data_file(entry) or entry.name.startswith((".", "_")))
        and (
            any(map(is_data_file, entry.iterdir()))
            if entry.is_dir()
            else entry.suffix.lower() not in _ABOUT
        )
    ]
    if others:
        said = "%s: not read are %s; only files %s right in that folder are"
        log.warning(said, path, _some(others), ", ".join(SUFFIXES))


def _instead(path: Path) -> str:
    """What there is at a path without data files, and how it becomes one."""
    below = [] if path.is_file() else [*path.iterdir(), *islice(path.glob("*/*"), _LOOKED_AT)]
    files = [entry for entry in below or [path] if entry.is_file()]
    kinds = Counter(file.suffix.lower() for file in files)
    some = [f"{count} {kind or 'without suffix'}" for kind, count in kinds.most_common(3)]
    said = f"; found {', '.join(some)}" if some else ""
    texts = [file for file in files if file.suffix.lower() in _TEXTS]
    if file := next((text for text in texts if text.stat().st_size), None):
        reader, written = _TEXTS[file.suffix.lower()], f"{file.stem}.parquet"
        call = f"datasets.Dataset.{reader}({str(file)!r}).to_parquet({written!r})"
        return f"{said}. To convert: python -c {quote(f'import datasets; {call}')}"
    if texts:
        said += f", which {'is' if len(texts) == 1 else 'are'} empty"
    if any(kinds[kind] for kind in _IMAGES):
        said += ". docs/ml-repositories.md (Data) has the line that converts a folder of images"
    return said


def is_data_file(path: Path) -> bool:
    """Whether this is a data file. Hidden files are not: they may be only half written."""
    return path.suffix in SUFFIXES and not path.name.startswith(".") and path.is_file()


def _load_saved(path: Path, tags: Sequence[str]) -> Any:
    import datasets

    from flops_fl.data.dataset import wrap

    if tags:
        raise DataError(
            f"{path} is a dataset saved with save_to_disk, which tags ({_some(tags)}) cannot "
            "filter: leave the tags out, or write it as TAG.<anything>.parquet"
        )
    try:
        saved = datasets.load_from_disk(str(path))
        # Without file names `datasets` treats the table as one in memory, though it is still
        # mapped. It then does not write the results of `map` next to the user's data.
        dataset = datasets.Dataset(
            saved.data.table,
            info=saved.info,
            split=saved.split,
            fingerprint=_fingerprint(sorted(path.iterdir())),
        )
        dataset.set_format(**saved.format)
    except Exception as error:  # JSON, Arrow and `datasets` raise many types for damaged files
        reason = first_line(error)
        raise DataError(
            f"the dataset saved at {path} cannot be read ({reason}): save it again"
        ) from error
    if not len(dataset):
        raise DataError(f"no rows in the dataset saved at {path}: training needs at least one")
    return wrap(dataset)


def _split_needed(path: Path) -> DataError:
    try:
        splits = json.loads((path / "dataset_dict.json").read_bytes())["splits"]
    except (OSError, ValueError, KeyError, TypeError):
        splits = sorted(entry.name for entry in path.iterdir() if entry.is_dir())
    example = path / splits[0] if splits else path / "train"
    return DataError(
        f"{path} is a DatasetDict with the splits {_some(splits)}: point to one of them, "
        f"such as {example}"
    )


def _fingerprint(files: Sequence[Path]) -> str:
    """Hash names, sizes and times of the files; hashing their content would take 20 ms a MB."""
    digest = hashlib.sha256()
    for file in files:
        stat = file.stat()
        digest.update(f"{file.name}/{stat.st_size}/{stat.st_mtime_ns}\n".encode())
    return digest.hexdigest()[:16]


def _some(names: Sequence[str]) -> str:
    shown = ", ".join(f"'{name}'" for name in names[:_SHOWN]) or "none"
    return shown if len(names) <= _SHOWN else f"{shown} and {len(names) - _SHOWN} more"
