"""Arrow schemas and batches from the network: what is let in, and how it is read.

Memory stays in proportion to the bytes that arrived. So no type is let in that has values without
bytes, and no compressed batch, whose buffers may expand a thousand times.
"""

from __future__ import annotations

import struct
from typing import Any

from flops_fl.data.tables import features_of
from flops_fl.errors import DataError
from flops_fl.text import first_line

SCHEMA_BYTES = 4 << 20  # the 21,841 class names of ImageNet take half a MB
COLUMNS = 10_000  # with those inside of others
DEPTH = 32
_MARK = b"\xff\xff\xff\xff"  # of an encapsulated message: Arrow's columnar format, IPC
# Fields of Message, and of RecordBatch, in Arrow's Message.fbs.
_HEADER = 2
_LENGTH, _COMPRESSION = 0, 3
_PLAIN = (
    "is_integer", "is_floating", "is_decimal", "is_temporal", "is_boolean", "is_string",
    "is_binary", "is_large_string", "is_large_binary",
)  # fmt: skip


def read_schema(name: str, header: bytes) -> Any:
    """Read the schema at the beginning of a stream.

    Raises:
        DataError: it is none, or one that a learner cannot train on.
    """
    import pyarrow as pa

    if len(header) > SCHEMA_BYTES:
        raise DataError(
            f"{name}: its schema has {len(header)} bytes, at most {SCHEMA_BYTES} are accepted"
        )
    try:
        schema = pa.ipc.read_schema(pa.py_buffer(_encapsulated(header)))
    except (pa.ArrowException, OSError, ValueError) as error:
        raise DataError(
            f"{name} does not begin with an Arrow schema, or with one that is nested too deep "
            f"({first_line(error)[:200]}): send schema and batches as pyarrow.flight does"
        ) from error
    check_schema(name, schema)
    return schema


def check_schema(name: str, schema: Any) -> None:
    """Check that learners can train on data with this schema.

    Raises:
        DataError: its types, its number of columns or its features do not allow it.
    """
    try:
        names = schema.names
    except UnicodeDecodeError:
        raise DataError(f"{name}: the name of a column is not UTF-8: rename it") from None
    if len(set(names)) != len(schema) or not len(schema):
        raise DataError(f"{name}: expected at least one column, and none twice")
    count = sum(_count(name, field.name, field.type, 1) for field in schema)
    if count > COLUMNS:
        raise DataError(
            f"{name} has {count} columns (with those inside of others), at most {COLUMNS} are "
            "accepted: put values of one kind into a list"
        )
    features_of(name, schema)


def _count(name: str, column: str, kind: Any, depth: int) -> int:
    """The number of columns in a column of this type, with itself."""
    import pyarrow as pa

    if isinstance(kind, pa.BaseExtensionType):
        kind = kind.storage_type
    if depth > DEPTH:
        raise DataError(f"{name}: column '{column}' is nested deeper than {DEPTH}: flatten it")
    if _plain(kind):
        return 1
    if pa.types.is_null(kind):
        raise DataError(
            f"{name}: column '{column}' has only nulls and no type, which no learner can train on: "
            "give it a type, or leave it out"
        )
    if pa.types.is_struct(kind) and kind.num_fields:
        inner = [kind.field(number).type for number in range(kind.num_fields)]
    elif _list_size(kind):
        inner = [kind.value_type]
    else:
        raise DataError(
            f"{name}: column '{column}' has the type {str(kind)[:80]}, which is not accepted: send "
            "numbers, times, texts, bytes, and lists or structs of them"
        )
    return 1 + sum(_count(name, column, each, depth + 1) for each in inner)


def _plain(kind: Any) -> bool:
    import pyarrow as pa

    if pa.types.is_decimal(kind) and not 0 <= kind.scale <= kind.precision:  # none of Parquet
        return False
    return any(getattr(pa.types, of)(kind) for of in _PLAIN)


def _list_size(kind: Any) -> int:
    """The length of a type's lists; 1 if it varies; 0 if they have no values, or are no lists."""
    import pyarrow as pa

    if pa.types.is_fixed_size_list(kind):
        return int(kind.list_size)
    return int(pa.types.is_list(kind) or pa.types.is_large_list(kind))


def read_batch(name: str, schema: Any, header: bytes, body: bytes) -> Any:
    """Read one `pyarrow.RecordBatch` and check every value of it.

    Raises:
        DataError: it is none, or a damaged or compressed one.
    """
    import pyarrow as pa

    try:
        message = pa.ipc.read_message(pa.py_buffer(_encapsulated(header) + body))
        if message.type != "record batch":
            raise DataError(f"{name}: expected a record batch, not a {message.type}")
        rows, compressed = _claims(header)
        if compressed:
            raise DataError(f"{name} is compressed: send it without compression")
        if rows > 8 * len(body):  # columns of nulls have no bytes
            raise DataError(f"{name}: {rows} rows in {len(body)} bytes")
        batch = pa.ipc.read_record_batch(message, schema)
        batch.validate(full=True)
        _require_readable(name, batch)
    except (pa.ArrowException, OSError, ValueError, struct.error, IndexError) as error:
        raise DataError(
            f"{name} has a damaged batch ({first_line(error)[:200]}): check the sender's pyarrow, "
            "and send it again"
        ) from error
    return batch


def _require_readable(name: str, batch: Any) -> None:
    """Refuse nulls that pyarrow writes to Parquet and cannot read again.

    Source: https://github.com/apache/arrow/issues/35692.

    Raises:
        DataError: a list of a fixed size is null, or is in a struct that is null.
    """
    for column, array in zip(batch.schema.names, batch.columns, strict=True):
        if _null_list(array):
            raise DataError(
                f"{name}: column '{column}' has nulls in place of lists of a fixed size, which "
                "cannot be read again from Parquet: send lists of null values, or of any length"
            )


def _null_list(array: Any) -> bool:
    import pyarrow as pa

    array = getattr(array, "storage", array)
    if pa.types.is_fixed_size_list(array.type):
        return array.null_count > 0 or _null_list(array.flatten())
    if pa.types.is_struct(array.type):  # flattened, children are null where the struct is
        return any(_null_list(child) for child in array.flatten())
    is_list = pa.types.is_list(array.type) or pa.types.is_large_list(array.type)
    return is_list and _null_list(array.flatten())


def _encapsulated(header: bytes) -> bytes:
    """A header as Arrow's IPC has it in files; the body follows."""
    padding = bytes(-len(header) % 8)
    return _MARK + struct.pack("<i", len(header) + len(padding)) + header + padding


def _claims(header: bytes) -> tuple[int, bool]:
    """How many rows a record batch claims to have, and whether it is compressed."""
    (root,) = struct.unpack_from("<I", header, 0)
    place = _field(header, root, _HEADER)
    (batch,) = struct.unpack_from("<I", header, place)
    length = _field(header, place + batch, _LENGTH)
    (rows,) = struct.unpack_from("<q", header, length) if length else (0,)
    return rows, _field(header, place + batch, _COMPRESSION) > 0


def _field(buffer: bytes, table: int, number: int) -> int:
    """Where a field of a FlatBuffers table is; 0 if it has its default."""
    (back,) = struct.unpack_from("<i", buffer, table)
    vtable = table - back
    (size,) = struct.unpack_from("<H", buffer, vtable)
    at = 4 + 2 * number
    if at >= size:
        return 0
    (offset,) = struct.unpack_from("<H", buffer, vtable + at)
    return table + offset if offset else 0
