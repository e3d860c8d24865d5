"""Puts rows on a data server: streamed, named by their content, repeated after a cut."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from flops_fl.data.content import ContentHash
from flops_fl.data.flights import list_flights
from flops_fl.data.names import COUNTED, FROM, SUFFIX, UNFINISHED, check_tag
from flops_fl.data.servers import Dialled
from flops_fl.errors import DataError, NoSuchFlight, Unreachable

log = logging.getLogger(__name__)

CHUNK = 2 << 20  # bytes of a batch, if a row is no larger

Batches: TypeAlias = Callable[[], Iterator[Any]]


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows to send: their schema, and a function that gives their record batches."""

    schema: Any
    batches: Batches
    repeatable: bool = True
    """Whether the batches can be asked for again."""


@dataclass(frozen=True, slots=True)
class Sent:
    """A flight on a server, and whether it was there already."""

    name: str
    added: bool


def send(rows: Rows, tag: str, dialled: Dialled) -> Sent:
    """Put rows under a tag; the same rows again add nothing.

    Rows that can be repeated are hashed first, and not sent if the server has them. A put that was
    cut off, also of another process, goes on where it stopped. Other rows are sent as they come,
    and the server makes the name.

    Raises:
        UsageError: the tag cannot be used.
        DataError: the server refuses the rows.
        Unreachable, Refused: see `Dialled.call`. Of rows that were cut off nothing is kept.
    """
    check_tag(tag)
    if not rows.repeatable:
        list_flights(dialled, [tag])  # wait until the server is there: the rows come only once
        said = dialled.call(_putting(tag, rows), once=True)
        return Sent(said or tag, True)
    digest = ContentHash(rows.schema)
    for batch in rows.batches():
        digest.add(batch)
    name = f"{tag}.{digest.hexdigest()}{SUFFIX}"
    most, end, pause, added = -1, 0.0, 0.1, False
    while (start := _start(dialled, tag, name)) is not None:
        if start > most:
            most, end, pause = start, time.monotonic() + dialled.patience, 0.1
        if start:
            log.info("%s: %d rows are there already, it goes on with the next one", name, start)
        try:
            dialled.call(_putting(name, rows, start), once=True)
            added = True
            break
        except (Unreachable, NoSuchFlight) as cut:
            if time.monotonic() + pause > end:
                raise
            log.info("%s", cut)
            added = True  # all of it may have arrived
            time.sleep(pause)
            pause = min(2 * pause, dialled.max_backoff)
    return Sent(name, added)


def _start(dialled: Dialled, tag: str, name: str) -> int | None:
    """How many rows of it the server has; None if it has all."""
    criteria = json.dumps({"data_tags": [tag], UNFINISHED: True}).encode()
    infos = dialled.call(lambda client, options: list(client.list_flights(criteria, options)))
    found = [info for info in infos if info.descriptor.path[:1] == [name.encode()]]
    if any(info.endpoints for info in found):
        return None
    return max((info.total_records for info in found), default=0)


def _putting(name: str, rows: Rows, start: int | None = None) -> Callable[[Any, Any], str]:
    """A put, as a step for `Dialled.call`; it gives the name that the server has given."""
    from pyarrow import ArrowException, flight

    def step(client: Any, _: Any) -> str:
        begins = [] if start is None else [FROM + str(start).encode()]
        descriptor = flight.FlightDescriptor.for_path(name.encode(), COUNTED, *begins)
        writer, reader = client.do_put(descriptor, rows.schema)
        count, batches = start or 0, _without(rows.batches(), start or 0)
        while (batch := next(batches, None)) is not None:  # what it raises leaves the put uncounted
            try:
                writer.write_batch(batch)
            except (ArrowException, OSError):
                writer.close()  # raises the server's reason
                raise
            count += len(batch)
        try:
            writer.write_metadata(json.dumps({"rows": count}).encode())
            writer.done_writing()
            answer = reader.read()
        except (ArrowException, OSError):
            writer.close()
            raise
        writer.close()
        return bytes(answer).decode() if answer is not None else ""

    return step


def _without(batches: Iterator[Any], rows: int) -> Iterator[Any]:
    """The batches without their first rows."""
    for batch in batches:
        if rows < len(batch):
            yield batch.slice(rows)
        rows = max(0, rows - len(batch))


def rows_of(data: Any) -> Rows:
    """The rows of a `pyarrow.Table`, a `datasets.Dataset`, a Parquet file or many batches.

    Raises:
        DataError: it is something else, or an iterable without a batch.
    """
    import datasets
    import pyarrow as pa

    if isinstance(data, Path):
        return _of_parquet(data)
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
        f"cannot put a {type(data).__name__}: expected a pyarrow.Table, a datasets.Dataset, or an "
        "iterable of pyarrow.RecordBatch"
    )


def _of_parquet(path: Path) -> Rows:
    import pyarrow as pa
    import pyarrow.parquet as pq

    def batches() -> Iterator[Any]:
        with pa.memory_map(str(path)) as mapped, pq.ParquetFile(mapped) as parquet:
            for batch in parquet.iter_batches(batch_size=10_000):
                yield from _cut(_decoded(pa.Table.from_batches([batch], parquet.schema_arrow)))

    try:
        schema = pq.read_schema(path)
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{path} cannot be read as Parquet ({error}): replace it") from error
    return Rows(_plain(schema), batches)


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
    rows = max(1, CHUNK * len(table) // max(table.nbytes, 1))
    yield from table.to_batches(max_chunksize=rows)
