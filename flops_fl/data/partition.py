"""Cuts a dataset into the local data of many learners; the same seed gives the same cut."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from flops_fl.data.parts import Part, check_tags, write_parts
from flops_fl.data.schemes import parse_scheme
from flops_fl.errors import DataError, UsageError

Rows: TypeAlias = NDArray[np.int64]

# Draws to try until every part has a row. More would hardly help: after so many failures a part
# is very probably empty in more than 99 of 100 draws.
ATTEMPTS = 100


def partition(
    dataset: Any, parts: int, *, scheme: str, seed: int, label: str = "label"
) -> list[Rows]:
    """Assign every row of a dataset to exactly one of `parts` parts; no part is empty.

    ``iid`` shuffles the rows and cuts them into parts whose sizes differ by at most one row.
    ``dirichlet:ALPHA`` draws for each class the parts' shares from a symmetric Dirichlet
    distribution. The smaller alpha, the fewer classes dominate a part.
    ``shards:K`` sorts the rows by class, cuts them into K shards for each part, and deals these
    out, so a part has few classes.
    ``linear`` shuffles the rows; the sizes of the parts are as 1, 2, 3, ...
    ``column:NAME`` keeps all rows of one value of this column, such as a user's id, in one part.
    Rows within a part are shuffled, since user code often takes the last rows for testing.

    Args:
        dataset: A `datasets.Dataset`; for ``iid`` and ``linear`` anything that has a length.
        parts: The number of learners that share it.
        scheme: One of the above.
        seed: 0 or more; the same seed gives the same parts.
        label: The column of classes, for ``dirichlet`` and ``shards``.

    Returns:
        Row numbers, one array for each part.

    Raises:
        UsageError: An argument is outside the range given above.
        DataError: There are too few rows, no such label column, or a part would stay empty.

    Source: Hsu, Qi, Brown 2019, arXiv:1909.06335 (Dirichlet label skew). Shares are drawn for
    each class as in Yurochkin et al. 2019, arXiv:1905.12022. Shards: McMahan et al. 2017,
    arXiv:1602.05629.
    """
    chosen = parse_scheme(scheme)
    if parts < 1:
        raise UsageError(f"{parts} parts: expected at least 1")
    if seed < 0:
        raise UsageError(f"seed {seed}: expected 0 or more")
    if parts > len(dataset):
        raise DataError(
            f"{parts} parts of {len(dataset)} rows: every part needs a row; lower the parts"
        )
    rng = np.random.default_rng(seed)
    if chosen.kind == "iid":
        return list(np.array_split(rng.permutation(len(dataset)), parts))
    if chosen.kind == "linear":
        return _linear(rng.permutation(len(dataset)), parts)
    if chosen.kind == "dirichlet":
        return _dirichlet(_classes(dataset, label, "dirichlet"), parts, chosen.alpha, seed)
    if chosen.kind == "shards":
        return _shards(_classes(dataset, label, "shards"), parts, chosen.shards, rng)
    return _groups(_classes(dataset, chosen.column, scheme), parts, chosen.column, rng)


def write_partitions(
    dataset: Any,
    tags: Sequence[str],
    out: Path,
    *,
    scheme: str,
    seed: int,
    remedy: str = "choose another folder",
) -> list[Path]:
    """Write one part for each tag, as ``OUT/TAG.<hash>.parquet``; return the paths in order.

    The hash is the start of the file's SHA-256. The same arguments give the same files.

    Args:
        remedy: What a person can do where they cannot be written.

    Raises:
        UsageError: A tag is empty, given twice or a prefix of another; see `partition`.
        DataError: `out` already holds other files of these tags; see `partition`.
    """
    check_tags(tags)
    cut = partition(dataset, len(tags), scheme=scheme, seed=seed)
    return write_cut(dataset, dict(zip(tags, cut, strict=True)), out, remedy=remedy)


def write_cut(dataset: Any, cut: Mapping[str, Rows], out: Path, *, remedy: str) -> list[Path]:
    """Write one part for each tag, from its rows; see `write_partitions`."""
    parts = [Part(out, f"{tag}.", rows) for tag, rows in cut.items()]
    return write_parts(dataset, parts, tags=list(cut), folders=[out], remedy=remedy)


def require_column(column: str, names: Sequence[str], scheme: str) -> None:
    """Check that a column that a scheme needs is there.

    Raises:
        DataError: it is not.
    """
    if column not in names:
        raise DataError(
            f"no column '{column}' for {scheme}: there are {', '.join(names)}; name one of them "
            f"({'column:NAME' if scheme.startswith('column:') else '--label'}), or use iid"
        )


def _classes(dataset: Any, label: str, scheme: str) -> Rows:
    """Number each row's class, from 0, in the order in which classes first occur."""
    import pyarrow as pa

    require_column(label, dataset.column_names, scheme)
    column = dataset.select_columns([label]).with_format("arrow")[:].column(label)
    try:
        encoded = column.combine_chunks().dictionary_encode(null_encoding="encode")
    except pa.ArrowException as error:
        raise DataError(
            f"column '{label}' is {column.type}: {scheme} needs one class a row; use iid"
        ) from error
    return np.asarray(encoded.indices.to_numpy(zero_copy_only=False), dtype=np.int64)


def _dirichlet(classes: Rows, parts: int, alpha: float, seed: int) -> list[Rows]:
    sizes = np.bincount(classes)
    for attempt in range(ATTEMPTS):
        rng = np.random.default_rng([seed, attempt])
        shares = rng.dirichlet(np.full(parts, alpha), size=len(sizes))
        if not np.isfinite(shares).all():  # alpha is too extreme for floats
            continue
        cuts = np.rint(np.cumsum(shares, axis=1)[:, :-1] * sizes[:, None]).astype(np.int64)
        if _every_part_has_rows(cuts, sizes):
            return _deal(classes, cuts, rng)
    raise DataError(
        f"dirichlet:{alpha:g} left a part without rows in each of {ATTEMPTS} draws "
        f"({len(classes)} rows, {parts} parts): raise alpha or lower the parts"
    )


def _linear(order: Rows, parts: int) -> list[Rows]:
    ends = np.rint(np.cumsum(np.arange(1, parts + 1)) * len(order) / (parts * (parts + 1) / 2))
    cut = np.split(order, ends[:-1].astype(np.int64))
    if not all(len(part) for part in cut):
        raise DataError(
            f"linear leaves a part without rows ({len(order)} rows, {parts} parts): lower the parts"
        )
    return cut


def _shards(classes: Rows, parts: int, each: int, rng: np.random.Generator) -> list[Rows]:
    if parts * each > len(classes):
        raise DataError(
            f"shards:{each} needs {parts * each} shards for {parts} parts, and there are only "
            f"{len(classes)} rows: lower the parts or the shards"
        )
    order = rng.permutation(len(classes))
    shards = np.array_split(order[np.argsort(classes[order], kind="stable")], parts * each)
    dealt = rng.permutation(parts * each).reshape(parts, each)
    return [rng.permutation(np.concatenate([shards[n] for n in own])) for own in dealt]


def _groups(values: Rows, parts: int, column: str, rng: np.random.Generator) -> list[Rows]:
    count = int(values.max()) + 1
    if parts > count:
        raise DataError(
            f"{parts} parts, and column '{column}' has only {count} values: lower the parts"
        )
    own = np.array_split(rng.permutation(count), parts)
    return [rng.permutation(np.flatnonzero(np.isin(values, groups))) for groups in own]


def _every_part_has_rows(cuts: Rows, sizes: Rows) -> bool:
    edges = np.hstack([np.zeros((len(sizes), 1), np.int64), cuts, sizes[:, None]])
    return bool(np.diff(edges, axis=1).sum(axis=0).min() > 0)


def _deal(classes: Rows, cuts: Rows, rng: np.random.Generator) -> list[Rows]:
    dealt: list[list[Rows]] = [[] for _ in range(cuts.shape[1] + 1)]
    for number, cut in enumerate(cuts):
        members = rng.permutation(np.flatnonzero(classes == number))
        for part, rows in zip(dealt, np.split(members, cut), strict=True):
            part.append(rows)
    return [rng.permutation(np.concatenate(part)) for part in dealt]
