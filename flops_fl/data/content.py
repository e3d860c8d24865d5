"""A hash of rows, by which the same data get the same name however they were cut into batches."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any

DIGITS = 16  # hexadecimal digits of the hash in a name


class ContentHash:
    """SHA-256 of a schema and of the rows that were added so far.

    Each buffer of a column has a hash of its own: which values are null, the lengths of texts and
    lists, the values. They do not depend on where batches end.
    """

    def __init__(self, schema: Any) -> None:
        self._schema = schema
        self._hashes: dict[str, Any] = {}

    def add(self, batch: Any) -> None:
        """Add the rows of a `pyarrow.RecordBatch` with this schema."""
        for number, column in enumerate(batch.columns):
            for key, content in _buffers(str(number), column):
                if key not in self._hashes:
                    self._hashes[key] = hashlib.sha256()
                self._hashes[key].update(content)

    def hexdigest(self) -> str:
        """The first `DIGITS` hexadecimal digits."""
        whole = hashlib.sha256(self._schema.serialize())
        for key in sorted(self._hashes):
            whole.update(f"{key}:{self._hashes[key].hexdigest()}\n".encode())
        return whole.hexdigest()[:DIGITS]


def hash_of(dataset: Any) -> str:
    """The hash of a `datasets.Dataset`: the same for the same features and rows, in this order."""
    from datasets import Features

    table = dataset.data.table.select(list(dataset.features))
    digest = ContentHash(Features(dataset.features).arrow_schema)
    for batch in table.to_batches(max_chunksize=1 << 16):  # nulls are left out of a copy of each
        digest.add(batch)
    return digest.hexdigest()


def _buffers(key: str, array: Any) -> Iterator[tuple[str, Any]]:
    """The buffers of an array, each with a key; values under nulls do not count."""
    import pyarrow as pa
    import pyarrow.compute as pc

    array = getattr(array, "storage", array)
    if pa.types.is_string_view(array.type) or pa.types.is_binary_view(array.type):
        array = array.cast(pa.large_binary())
    kind = array.type
    yield f"{key}/valid", _bytes(array.is_valid())
    array = array.drop_null()
    if pa.types.is_struct(kind):
        for number, child in enumerate(array.flatten()):
            yield from _buffers(f"{key}.{number}", child)
    elif pa.types.is_list(kind) or pa.types.is_large_list(kind):
        yield f"{key}/length", _bytes(pc.list_value_length(array))
        yield from _buffers(f"{key}.0", array.flatten())
    elif pa.types.is_fixed_size_list(kind):
        yield from _buffers(f"{key}.0", array.flatten())
    elif _is_text(kind):
        yield f"{key}/length", _bytes(pc.binary_length(array))
        yield f"{key}/data", _text(array)
    elif not pa.types.is_null(kind):
        yield f"{key}/data", _bytes(array)


def _is_text(kind: Any) -> bool:
    import pyarrow as pa

    return any(
        of(kind)
        for of in (
            pa.types.is_string,
            pa.types.is_binary,
            pa.types.is_large_string,
            pa.types.is_large_binary,
        )
    )


def _bytes(array: Any) -> Any:
    """The values of an array without nulls, whose type has a fixed width."""
    import pyarrow as pa

    if pa.types.is_boolean(array.type):
        array = array.cast(pa.uint8())
    width = array.type.bit_width // 8
    values = array.buffers()[1]
    if values is None:
        return b""
    return memoryview(values)[array.offset * width : (array.offset + len(array)) * width]


def _text(array: Any) -> Any:
    """The characters of texts, one after another."""
    import pyarrow as pa

    large = pa.types.is_large_string(array.type) or pa.types.is_large_binary(array.type)
    _, offsets, values = array.buffers()
    if values is None or not len(array):
        return b""
    ends = memoryview(offsets).cast("q" if large else "i")
    return memoryview(values)[ends[array.offset] : ends[array.offset + len(array)]]
