"""Reads one Parquet or Arrow IPC file: whole, or batch by batch."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from flops_fl.data.tables import rows_within
from flops_fl.errors import DataError
from flops_fl.text import first_line

BATCH = 10_000  # rows of a batch at most
BATCH_BYTES = 16 << 20  # of a batch at most, if a row is no larger
_IPC_FILE_MAGIC = b"ARROW1"  # the stream format has no magic


def read_table(file: Path) -> Any:
    """Read one Parquet or Arrow IPC file as a `pyarrow.Table`; Arrow files are memory-mapped.

    Raises:
        DataError: The file cannot be read or has another format than its suffix says.
    """
    import datasets  # noqa: F401 - registers the Arrow extension types of its features
    import pyarrow.parquet as pq

    with _readable(file):
        if _is_parquet(file):
            # Not `pq.read_table`, which turns `key=value` folders of the path into columns.
            with pq.ParquetFile(file) as parquet:
                table = parquet.read()
        else:
            opened = _open_ipc(file)
            table = opened.read_all()
        table.validate()
    return table


def schema_in(file: Path) -> Any:
    """The Arrow schema of a file; reads no rows.

    Raises:
        DataError: see `read_table`.
    """
    import pyarrow.parquet as pq

    with _readable(file):
        return pq.read_schema(file) if _is_parquet(file) else _open_ipc(file).schema


def batches_in(file: Path) -> Iterator[Any]:
    """The record batches of a file, one in memory at a time.

    Raises:
        DataError: see `read_table`.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    with _readable(file):
        if not _is_parquet(file):
            opened = _open_ipc(file)
            if isinstance(opened, pa.RecordBatchFileReader):
                yield from map(opened.get_batch, range(opened.num_record_batches))
            else:
                yield from opened
            return
        # Mapped, since pyarrow otherwise holds all row groups that it has read.
        with pa.memory_map(str(file)) as mapped, pq.ParquetFile(mapped) as parquet:
            yield from parquet.iter_batches(batch_size=_rows_of_a_batch(parquet.metadata))


def _rows_of_a_batch(metadata: Any) -> int:
    size: int = sum(metadata.row_group(n).total_byte_size for n in range(metadata.num_row_groups))
    rows: int = metadata.num_rows
    return min(BATCH, rows_within(BATCH_BYTES, rows, size))


def _is_parquet(file: Path) -> bool:
    return file.suffix == ".parquet"


def _open_ipc(file: Path) -> Any:
    import pyarrow as pa

    source = pa.memory_map(str(file))
    is_file_format = source.read(len(_IPC_FILE_MAGIC)) == _IPC_FILE_MAGIC
    source.seek(0)
    return pa.ipc.open_file(source) if is_file_format else pa.ipc.open_stream(source)


@contextmanager
def _readable(file: Path) -> Iterator[None]:
    import pyarrow as pa

    try:
        yield
    except (pa.ArrowException, OSError, ValueError) as error:
        kind = "Parquet" if _is_parquet(file) else "Arrow IPC"
        raise DataError(
            f"{file} cannot be read as {kind} ({first_line(error)}): replace it, or move it away"
        ) from error
