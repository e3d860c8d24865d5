"""Bytes from the network that are no schema or no batch are refused, and harm nobody."""

import io
import random

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from flops_fl.data.arriving import read_batch, read_schema
from flops_fl.data.content import ContentHash
from flops_fl.errors import DataError

ROWS = 50
BATCH = pa.RecordBatch.from_pydict({
    "float": pa.array(np.arange(ROWS, dtype=np.float32)),
    "text": [None if n % 5 == 0 else "é" * (n % 7) for n in range(ROWS)],
    "large": pa.array(["x" * n for n in range(ROWS)], pa.large_string()),
    "bool": [n % 3 == 0 for n in range(ROWS)],
    "list": [[1, 2][: n % 3] for n in range(ROWS)],
    "fixed": pa.array([[1, 2]] * ROWS, pa.list_(pa.int16(), 2)),
    "struct": [{"a": n, "b": str(n)} for n in range(ROWS)],
    "time": pa.array(range(ROWS), pa.timestamp("ms", "UTC")),
    "decimal": pa.array(range(ROWS), pa.decimal128(10, 2)),
    "deep": [[["a"], []]] * ROWS,
})  # fmt: skip


def parts(serialized):
    """Header and body."""
    end = 8 + int.from_bytes(memoryview(serialized)[4:8], "little")
    return bytes(memoryview(serialized)[8:end]), bytes(memoryview(serialized)[end:])


def mutated(rng, content):
    out = bytearray(content)
    for _ in range(rng.choice([1, 1, 2, 4, 8])):
        at, width = rng.randrange(len(out)), rng.choice([0, 1, 4, 8])
        if width == 0:
            out[at] ^= 1 << rng.randrange(8)
            continue
        value = rng.choice([0, 1, ROWS, ROWS + 1, len(content), 2**31 - 1, 2**62, -1, -(2**31)])
        at -= at % width
        out[at : at + width] = (value % 256**width).to_bytes(width, "little")
    return bytes(out[: len(content)])


def use(header, body, schema_header):
    """All that a data server does with a batch."""
    schema = read_schema("x", schema_header)
    batch = read_batch("x", schema, header, body)
    digest = ContentHash(schema)
    digest.add(batch)
    digest.hexdigest()
    table = pa.Table.from_batches([batch], schema).combine_chunks()
    for piece in table.to_batches(max_chunksize=7):
        piece.serialize()
    sink = io.BytesIO()
    pq.write_table(table, sink, use_dictionary=False)
    assert pq.read_table(io.BytesIO(sink.getvalue())).num_rows == len(batch)


def test_names_of_columns_that_are_no_text_are_refused():
    header, _ = parts(pa.schema([("abcd", pa.int8())]).serialize())
    with pytest.raises(DataError, match="x: the name of a column is not UTF-8"):
        read_schema("x", header.replace(b"abcd", b"\xff" * 4))


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
def test_damaged_bytes_are_refused_or_read_as_other_values(seed):
    rng = random.Random(seed)
    schema, _ = parts(BATCH.schema.serialize())
    whole = [*parts(BATCH.serialize()), schema]
    use(*whole)
    refused = 0
    for _ in range(1500):
        which = rng.choice([0, 0, 1, 2])
        damaged = [mutated(rng, each) if n == which else each for n, each in enumerate(whole)]
        try:
            use(*damaged)
        except DataError:
            refused += 1
    assert 500 < refused < 1500
