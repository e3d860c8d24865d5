"""A flight that is being written: whole batches come in, and a whole file or nothing comes out."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from flops_fl.data.content import ContentHash
from flops_fl.data.copies import Copies, messages_of, version_of
from flops_fl.data.names import PART, SUFFIX, check_name
from flops_fl.errors import DataError, NoRoom

GROUP = 8 << 20  # bytes of a Parquet row group


class Put:
    """A flight that is being written. End it with `finish` or `discard`.

    Args:
        name: ``TAG.HASH.parquet``, or only the tag: the name then gets the hash of the content.
        folder: Where the file will be.
        grown: Called with the temporary file and its size, -1 when it is gone; may raise NoRoom.
        sync: Waits until the names of files are on disk.
        copies: Gets the batches as they will be sent.
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
    ) -> None:
        import pyarrow.parquet as pq

        self.rows = 0
        self._folder, self._grown, self._sync = folder, grown, sync
        self._name = name
        self._schema = schema
        self._hash = None if name.endswith(SUFFIX) else ContentHash(schema)
        self._held: list[Any] = []
        self._size = 0
        self._copies, self._copy = copies, copies.begin(schema)
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
        except BaseException:
            self.discard()
            raise

    def add(self, batch: Any) -> None:
        """Write a `pyarrow.RecordBatch`.

        Raises:
            NoRoom: the quota or the disk is full.
        """
        if self._hash is not None:
            self._hash.add(batch)
        self.rows += len(batch)
        self._held.append(batch)
        self._size += batch.nbytes
        if self._size >= GROUP:
            self._write()

    def _write(self) -> None:
        import pyarrow as pa

        table = pa.Table.from_batches(self._held, self._schema)
        self._held, self._size = [], 0
        rows = max(1, GROUP * len(table) // max(table.nbytes, 1))
        with writing():
            self._writer.write_table(table, row_group_size=rows)
        self._grown(self._part, self._file.tell())
        if self._copy is not None:
            for message in messages_of(table):
                self._copy.add(message)

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
            self._sync()
        return name

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
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise NoRoom(f"the data server has no room left ({error.strerror})") from None
        raise DataError(f"the data server cannot write ({error.strerror})") from error
