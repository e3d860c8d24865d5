"""The copies from which a data server sends: they are as the files, and never in the way."""

import os
from contextlib import closing

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from flops_fl.data import copies
from flops_fl.data.shelf import Shelf
from flops_fl.errors import NoRoom
from tests.data.serving import rows

MB = 1 << 20
NAME = "a.1.parquet"


@pytest.fixture
def shelf(tmp_path):
    with closing(Shelf(tmp_path / "data", quota=64 * MB)) as own:
        yield own


@pytest.fixture
def decoded(monkeypatch):
    """How often a Parquet file's batches are read."""
    count, real = [], pq.ParquetFile.iter_batches

    def iter_batches(self, **options):
        count.append(options)
        return real(self, **options)

    monkeypatch.setattr(pq.ParquetFile, "iter_batches", iter_batches)
    return count


def put(shelf, table, name=NAME, size=1000):
    new = shelf.put(name, table.schema)
    try:
        for batch in table.to_batches(max_chunksize=size):
            new.add(batch)
        return new.finish()
    finally:
        new.discard()


def get(shelf, name=NAME):
    with shelf.reading(name) as (flight, messages):
        held = []
        while (message := messages.following()) is not None:
            held.append(pa.ipc.read_record_batch(pa.py_buffer(bytes(message)), flight.schema))
    return pa.Table.from_batches(held, flight.schema)


def large(seed, size=3 * MB):
    return pa.table({"x": np.random.default_rng(seed).random(size // 8)})


def test_what_was_put_is_sent_from_its_copy_in_batches_of_about_a_mebibyte(shelf, decoded):
    texts = [None if n % 7 == 0 else ["é" * (n % 5)] * (n % 3) for n in range(150_000)]
    table = pa.table({"x": np.arange(150_000.0), "words": texts}).replace_schema_metadata(
        {"k": "v"}
    )
    put(shelf, table)
    found = get(shelf)
    assert found == table
    assert found.schema.equals(table.schema, check_metadata=True)
    sizes = [chunk.nbytes for chunk in found.column(0).chunks]
    assert found.nbytes / len(sizes) > 0.7 * MB
    assert decoded == []


def test_the_first_reading_after_a_start_makes_the_copy(shelf, decoded):
    pq.write_table(large(1), shelf.folder / NAME)
    with shelf.reading(NAME) as (_, messages):  # cut off: half of it is no copy
        messages.following()
    assert get(shelf) == get(shelf) == large(1)
    assert len(decoded) == 2
    assert sorted(path.name for path in shelf.folder.iterdir()) == [NAME]


def test_a_file_that_is_replaced_or_dropped_is_not_sent_from_the_old_copy(shelf, decoded):
    put(shelf, large(1))
    pq.write_table(large(2), shelf.folder / "new")
    os.replace(shelf.folder / "new", shelf.folder / NAME)
    assert get(shelf) == large(2)
    put(shelf, large(3))
    assert get(shelf) == large(3)
    shelf.drop(NAME)
    put(shelf, large(4))
    assert get(shelf) == large(4)
    assert len(decoded) == 1


def test_types_that_parquet_changes_are_the_same_before_and_after_a_start(shelf, tmp_path):
    table = pa.table({"t": pa.array([1, 2], pa.timestamp("s"))})
    put(shelf, table)
    before = get(shelf)
    assert before.schema == shelf.flight(NAME).schema
    pq.write_table(table, tmp_path / "b.parquet")
    assert before == pq.read_table(tmp_path / "b.parquet")


def test_who_reads_a_copy_reads_on_when_it_has_to_go(shelf):
    put(shelf, large(1))
    with shelf.reading(NAME) as (flight, messages):
        first = messages.following()
        shelf.drop(NAME)
        put(shelf, rows(5))
        count = pa.ipc.read_record_batch(pa.py_buffer(bytes(first)), flight.schema).num_rows
        while (message := messages.following()) is not None:
            batch = pa.ipc.read_record_batch(pa.py_buffer(bytes(message)), flight.schema)
            count += batch.num_rows
    assert count == len(large(1))


def test_copies_take_no_more_than_the_quota_and_the_oldest_goes(shelf, decoded):
    tables = {f"a.{n}.parquet": pa.table({"x": np.full(3 * MB, n)}) for n in range(3)}
    for name, table in tables.items():  # 24 MB each, which Parquet makes small
        put(shelf, table, name, 1 << 20)
    assert 40 * MB < shelf._copies._taken <= 64 * MB
    assert all(get(shelf, name) == table for name, table in [*tables.items()][1:])
    assert decoded == []
    assert get(shelf, "a.0.parquet") == tables["a.0.parquet"]
    assert len(decoded) == 1
    with pytest.raises(NoRoom, match="quota"):  # data take what they may, as ever
        put(shelf, large(1, 70 * MB), "c.1.parquet", 1 << 20)


def test_a_disk_that_is_nearly_full_has_no_copies(shelf, decoded, monkeypatch):
    put(shelf, large(1))
    monkeypatch.setattr(copies, "SPARE", 1 << 60)
    put(shelf, large(2), "b.1.parquet")
    assert shelf._copies._taken == 0
    assert get(shelf) == get(shelf) == large(1)
    assert get(shelf, "b.1.parquet") == large(2)
    assert len(decoded) == 3


def test_put_that_is_given_up_leaves_no_copy(shelf):
    new = shelf.put(NAME, large(1).schema)
    for batch in large(1, 20 * MB).to_batches(max_chunksize=100_000):
        new.add(batch)
    assert shelf._copies._taken > 8 * MB
    new.discard()
    assert shelf._copies._taken == 0
