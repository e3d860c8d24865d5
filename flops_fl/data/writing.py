"""A flight that is being written: whole batches come in, and a whole file or nothing comes out."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from flops_fl.data.begun import Begun
from flops_fl.data.content import ContentHash
from flops_fl.data.copies import Copies, add_table, version_of
from flops_fl.data.names import PART, SUFFIX, check_name, tag_of
from flops_fl.data.tables import rows_within
from flops_fl.errors import DataError, NoRoom, NoSuchFlight
from flops_fl.text import first_line

GROUP = 8 << 20  # bytes of a Parquet row group


class Put:
    """A flight that is being written. End it with `finish` or `discard`.

    Args:
        name: ``TAG.HASH.parquet``, or only the tag: the name then gets the hash of the content.
        folder: Where the file will be.
        grown: Called with the temporary file and its size, -1 when it is gone; may raise NoRoom.
        sync: Waits until the names of files are on disk.
        copies: Gets the batches as they will be sent.
        begun: Has what arrived before a cut.
        start: Rows to take from there; None if nothing of this put may stay after a cut.

    Raises:
        NoSuchFlight: there are fewer rows.
        NoRoom: the quota or the disk is full.
    """

    def __init__(
        self,
        name: str,
        schema: Any,
        folder: Path,
        *,
        grown: Callable[[Path, int], None],
        sync: Callable[[], None],
        copies: Copies,
        begun: Begun,
        start: int | None = None,
    ) -> None:
        import pyarrow.parquet as pq

        self.rows = 0
        self._folder, self._grown, self._sync = folder, grown, sync
        self._name = name
        self._schema = schema
        self._hash = None if name.endswith(SUFFIX) else ContentHash(schema)
        self._held: list[Any] = []
        self._size = 0
        self._copies, self._begun = copies, begun
        self._copy = copies.begin(schema) if start is None else begun.begin(name, schema)
        self._check = ContentHash(schema) if start else None
        self._part = folder / f".{name}.{os.urandom(6).hex()}{PART}"
        grown(self._part, 0)
        try:
            with writing():
                self._file = self._part.open("xb")
                self._writer = pq.ParquetWriter(
                    self._file,
                    schema,
                    use_dictionary=False,  # making them costs most of the time
                    use_compliant_nested_type=False,  # lists keep the names of their values
                )
            for batch in begun.batches(name, schema, start) if start else ():
                self.add(batch)
        except BaseException:
            self.discard()
            raise

    def add(self, batch: Any) -> None:
        """Write a `pyarrow.RecordBatch`.

        Raises:
            NoRoom: the quota or the disk is full.
        """
        for digest in filter(None, (self._hash, self._check)):
            digest.add(batch)
        self.rows += len(batch)
        self._held.append(batch)
        self._size += batch.nbytes
        if self._size >= GROUP:
            self._write()

    def _write(self) -> None:
        table = self._table()
        rows = rows_within(GROUP, len(table), table.nbytes)
        self._copies.give_way()
        with writing():
            self._writer.write_table(table, row_group_size=rows)
        self._grown(self._part, self._file.tell())
        if self._copy is not None:
            add_table(self._copy, table)

    def _table(self) -> Any:
        import pyarrow as pa

        table = pa.Table.from_batches(self._held, self._schema)
        self._held, self._size = [], 0
        return table

    def finish(self) -> str:
        """Give the file its name, and return that.

        Raises:
            DataError: not one row was added.
            NoRoom: the quota or the disk is full.
        """
        import pyarrow.parquet as pq

        if not self.rows:
            raise DataError(f"{self._name} has no rows: a learner cannot train on it")
        if self._held:
            self._write()
        if self._check and self._name != f"{tag_of(self._name)}.{self._check.hexdigest()}{SUFFIX}":
            self._begun.end(self._name)
            raise NoSuchFlight(
                f"what was left of {self._name} does not have the rows of which its name has the "
                "hash, and is removed: put it again"
            )
        name = f"{self._name}.{self._hash.hexdigest()}{SUFFIX}" if self._hash else self._name
        with writing():
            self._writer.close()
            self._file.flush()
            os.fsync(self._file.fileno())
            self._grown(self._part, self._file.tell())
            version = version_of(os.fstat(self._file.fileno()))
            self._file.close()
            as_read = pq.read_schema(self._part)
            self._forget()  # under its name it is counted as a file
            path = self._folder / check_name(name)
            if self._hash and path.is_file() and not path.is_symlink():
                self._part.unlink()  # the same rows are there
            else:
                os.replace(self._part, path)
                if self._copy and as_read.equals(self._schema, check_metadata=True):
                    self._copies.keep(name, version, self._copy)
                    self._copy = None
            self._end_copy()
            self._begun.end(name)
            self._sync()
        return name

    def leave(self) -> None:
        """Let what has arrived stay, if that was said at the beginning, and end it."""
        copy = self._copy
        if copy and copy.path and not copy.closed and not (self._folder / self._name).exists():
            if self._held:
                add_table(copy, self._table())
            if copy.rows and not copy.closed:
                copy.leave()
                self._copy = None
        self.discard()

    def discard(self) -> None:
        """Leave nothing of it. Has no effect after `finish`."""
        for what in ("_writer", "_file"):
            with suppress(Exception):  # whatever is wrong with it, it goes
                getattr(self, what).close()
        self._part.unlink(missing_ok=True)
        self._forget()
        self._end_copy()

    def _end_copy(self) -> None:
        if self._copy is not None:
            self._copy.close()

    def _forget(self) -> None:
        self._grown(self._part, -1)


@contextmanager
def writing() -> Iterator[None]:
    """Say it in a sentence if a file cannot be written.

    Raises:
        NoRoom: the disk is full.
        DataError: another reason.
    """
    import pyarrow as pa

    try:
        yield
    except pa.ArrowException as error:  # as times beyond those that Parquet has
        reason = first_line(error)[:200]
        raise DataError(f"these data cannot be kept as Parquet: {reason}") from error
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise NoRoom(f"the data server has no room left ({error.strerror})") from None
        raise DataError(f"the data server cannot write ({error.strerror})") from error
