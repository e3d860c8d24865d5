"""Rows on their way to a data server: whatever holds them, they come in batches."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from flops_fl.data.files import batches_in, schema_in
from flops_fl.data.folder import choose_files, warn_of_others
from flops_fl.data.tables import features_of, require_same, rows_within
from flops_fl.errors import DataError
from flops_fl.text import first_line

CHUNK = 2 << 20  # bytes of a batch, if a row is no larger

Batches: TypeAlias = Callable[[], Iterator[Any]]


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows to send: their schema, and a function that gives their record batches."""

    schema: Any
    batches: Batches
    repeatable: bool = True
    """Whether the batches can be asked for again."""
    source: str = ""
    """Where they are, for messages."""


def rows_of(data: Any) -> Rows:
    """The rows of a table, a `datasets.Dataset`, a DataFrame, a Parquet file or many batches.

    Raises:
        DataError: it is something else, or an iterable without a batch.
    """
    import datasets
    import pandas as pd  # type: ignore[import-untyped]
    import pyarrow as pa

    if isinstance(data, Path):
        return _of_parquet(data)
    if isinstance(data, pd.DataFrame):
        data = _of_frame(data)
    if isinstance(data, pa.RecordBatch):
        data = pa.Table.from_batches([data])
    if isinstance(data, datasets.Dataset):
        return _of_dataset(data)
    if isinstance(data, pa.Table):
        table = _decoded(data)
        return Rows(table.schema, lambda: _cut(table))
    if isinstance(data, Iterable) and not isinstance(data, str | bytes | dict):
        return _of_stream(iter(data))
    raise DataError(
        f"cannot put a {type(data).__name__}: expected a pyarrow.Table, a datasets.Dataset, a "
        "pandas.DataFrame, or an iterable of pyarrow.RecordBatch"
    )


def _of_frame(frame: Any) -> Any:
    """The table of a DataFrame; an index with values is a column, as Arrow has it."""
    import pyarrow as pa

    try:
        table = pa.Table.from_pandas(frame)
    except (pa.ArrowException, ValueError, TypeError) as error:
        raise DataError(
            f"the DataFrame has a column of mixed or unknown types ({first_line(error)}): give "
            "each column one type"
        ) from error
    return table.replace_schema_metadata(None)  # so that its name is that of the same table


def _of_parquet(path: Path) -> Rows:
    import pyarrow as pa

    schema = schema_in(path)

    def batches() -> Iterator[Any]:
        for batch in batches_in(path):
            yield from _cut(_decoded(pa.Table.from_batches([batch], schema)))

    return Rows(_plain(schema), batches, source=str(path))


def rows_in_folder(path: Path) -> Rows:
    """The rows of the files that `load_folder` takes, as it joins them; in memory is one batch.

    Raises:
        DataError: see `load_folder`; what is in the pages of a file shows when they are read.
    """
    import datasets  # noqa: F401 - registers the Arrow extension types of its features
    import pyarrow as pa
    from datasets.table import embed_table_storage, table_cast

    files = choose_files(path, [])
    warn_of_others(path)
    schemas = [schema_in(file) for file in files]
    first, *others = [features_of(str(f), s) for f, s in zip(files, schemas, strict=True)]
    for file, features in zip(files[1:], others, strict=True):
        require_same(str(files[0]), first, str(file), features)
    schema = first.arrow_schema

    def batches() -> Iterator[Any]:
        empty = True
        for file, own in zip(files, schemas, strict=True):
            for batch in batches_in(file):
                empty = empty and not len(batch)
                table = pa.Table.from_batches([batch], own).select(schema.names)
                # Images that the file only points to go with it, as in a partition.
                yield from _cut(embed_table_storage(table_cast(table, schema)))
        if empty:
            raise DataError(f"no rows in {path}: training needs at least one")

    return Rows(schema, batches, source=str(path))


def _of_dataset(dataset: Any) -> Rows:
    from flops_fl.data.parts import schema_of, tables_of

    return Rows(
        schema_of(dataset),
        lambda: (batch for table in tables_of(dataset) for batch in _cut(table)),
    )


def _of_stream(items: Iterator[Any]) -> Rows:
    import pyarrow as pa

    def table_of(item: Any) -> Any:
        if isinstance(item, pa.RecordBatch):
            return _decoded(pa.Table.from_batches([item]))
        if isinstance(item, pa.Table):
            return _decoded(item)
        raise DataError(
            f"cannot put a {type(item).__name__}: expected pyarrow.RecordBatch or pyarrow.Table"
        )

    first = next(items, None)
    if first is None:
        raise DataError("there is no batch to put: a learner cannot train on nothing")
    begin = table_of(first)

    def batches() -> Iterator[Any]:
        yield from _cut(begin)
        for item in items:
            table = table_of(item)
            if table.schema != begin.schema:
                raise DataError(
                    f"a batch with the columns {table.schema.names} after one with "
                    f"{begin.schema.names}: all batches of a put need the same columns and types"
                )
            yield from _cut(table)

    return Rows(begin.schema, batches, repeatable=False)


def _plain(schema: Any) -> Any:
    """A schema without dictionaries, which learners' features do not know."""
    import pyarrow as pa

    for number, field in enumerate(schema):
        if pa.types.is_dictionary(field.type):
            schema = schema.set(number, field.with_type(field.type.value_type))
    return schema


def _decoded(table: Any) -> Any:
    schema = _plain(table.schema)
    return table if schema == table.schema else table.cast(schema)


def _cut(table: Any) -> Iterator[Any]:
    """The record batches of a table, of about `CHUNK` bytes."""
    rows = rows_within(CHUNK, len(table), table.nbytes)
    yield from table.to_batches(max_chunksize=rows)
