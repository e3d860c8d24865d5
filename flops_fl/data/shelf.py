"""The folder of an ML data server: one Parquet file for each flight, and nothing else is reached.

A put is written to a hidden temporary file, and renamed when it is whole and on disk. So a crash at
any instant leaves the old file, the new one or none, and at most a temporary file, which the next
start removes.
"""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import stat
import threading
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from flops_fl.data.arriving import check_schema
from flops_fl.data.begun import Begun
from flops_fl.data.copies import MESSAGE, Copies, Messages, version_of
from flops_fl.data.folder import SUFFIXES
from flops_fl.data.names import PART, SUFFIX, check_name, check_tag, has_tag
from flops_fl.data.tables import rows_within
from flops_fl.data.writing import Put, writing
from flops_fl.errors import DataError, NoRoom, NoSuchFlight, UsageError
from flops_fl.text import first_line, some

log = logging.getLogger(__name__)

_KNOWN = 10_000  # files whose schema is remembered


@dataclass(frozen=True, kw_only=True, slots=True)
class Flight:
    """What a file holds."""

    name: str
    schema: Any
    rows: int
    size: int
    """Bytes on disk."""
    version: str
    """Another one after each change of the file."""


class Shelf:
    """A folder of flights, locked by this process. Its methods may be called from any thread.

    Args:
        folder: Made if it is missing.
        quota: Bytes that all files together may have; None for what the disk has.

    Raises:
        UsageError: the folder cannot be used, or another process serves it.
    """

    def __init__(self, folder: Path, quota: int | None = None) -> None:
        self.folder = folder
        self._quota = quota
        self._known: dict[tuple[str, str], Flight | DataError] = {}
        self._parts: dict[Path, int] = {}
        self._copies = Copies(folder, quota)
        self._mutex = threading.Lock()
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        except OSError as error:
            raise UsageError(f"--dir {folder}: {error.strerror}. Give another folder") from None
        try:
            self._lock()
            for left in folder.glob(f".*{PART}"):
                left.unlink(missing_ok=True)
            self._begun = Begun(folder, self._copies)
            self._name_strangers()
        except BaseException:
            self.close()
            raise

    def _lock(self) -> None:
        try:
            fcntl.flock(self._handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UsageError(
                f"another process serves --dir {self.folder}: stop it, or give another folder"
            ) from None
        except OSError:
            pass  # a file system without locks
        if not os.access(self.folder, os.W_OK | os.X_OK):
            log.warning("%s cannot be written: nobody can put data there", self.folder)

    def _name_strangers(self) -> None:
        """Warn of data files that are not served, so that none is left out in silence."""
        served = set(self._names())
        files = [path.name for path in self.folder.iterdir() if path.suffix in SUFFIXES]
        left = sorted(name for name in files if name not in served and name[0] != ".")
        if left:
            log.warning(
                "%s: not served are %s. Expected files, no links, named TAG.HASH%s",
                self.folder, some(left, 5), SUFFIX,
            )  # fmt: skip

    def close(self) -> None:
        """Release the folder."""
        self._copies.close()
        os.close(self._handle)

    def flights(self, tags: Sequence[str] = ()) -> Iterator[Flight]:
        """The flights with one of the tags, by name; without tags, all. None is a damaged file."""
        for name in self._names():
            if not tags or has_tag(name, tags):
                with suppress(NoSuchFlight, DataError):
                    yield self.flight(name)

    def flight(self, name: str) -> Flight:
        """What the file of this name holds.

        Raises:
            NoSuchFlight: there is none.
            DataError: the name is none of a flight, or the file is not Parquet.
        """
        with self._opened(check_name(name)) as (file, version):
            return self._flight(name, file, version)

    @contextmanager
    def reading(self, name: str) -> Iterator[tuple[Flight, Messages]]:
        """What the file of this name holds, and its batches as messages of about `MESSAGE` bytes.

        Raises:
            NoSuchFlight, DataError: see `flight`.
        """
        import pyarrow as pa
        import pyarrow.parquet as pq

        with self._opened(check_name(name)) as (file, version):
            flight = self._flight(name, file, version)
            if (messages := self._copies.messages(name, version)) is not None:
                with closing(messages):
                    yield flight, messages
                return
            # Mapped: otherwise pyarrow holds all row groups of the file once it is read.
            mapped = pa.memory_map(f"/dev/fd/{file.fileno()}")
            with mapped, pq.ParquetFile(mapped) as parquet:
                meta = parquet.metadata
                size = sum(meta.row_group(n).total_byte_size for n in range(meta.num_row_groups))
                rows = min(rows_within(MESSAGE, flight.rows, size), 1 << 16)
                batches = _batches(name, parquet, rows)
                with closing(self._copies.made(name, version, flight.schema, batches)) as messages:
                    yield flight, messages

    def drop(self, name: str) -> None:
        """Remove a flight; those who read it read on.

        Raises:
            NoSuchFlight, DataError: see `flight`.
        """
        with self._opened(check_name(name)), writing():
            (self.folder / name).unlink(missing_ok=True)
            self._copies.forget(name)
            self.sync()

    def sync(self) -> None:
        """Wait until the names of files are on disk."""
        os.fsync(self._handle)

    def used(self) -> int:
        """Bytes of all files, also those that are being written."""
        with self._mutex:
            writing = sum(self._parts.values())
        return writing + sum(entry.stat(follow_symlinks=False).st_size for entry in self._entries())

    def put(self, name: str, schema: Any, start: int | None = None) -> Put:
        """Begin to write a flight.

        Args:
            name: ``TAG.HASH.parquet``, or only the tag: the name then gets the hash of the content.
            start: Rows of an earlier put of this name that are there; None to leave nothing of
                this put if it is cut off.

        Raises:
            DataError, UsageError: it is no such name.
            NoSuchFlight: there are fewer rows.
        """
        if name.endswith(SUFFIX) or start is not None:
            check_name(name)
        else:
            check_tag(name)
        return Put(
            name,
            schema,
            self.folder,
            grown=self._grown,
            sync=self.sync,
            copies=self._copies,
            begun=self._begun,
            start=start,
        )

    def begun(self, tags: Sequence[str]) -> list[Flight]:
        """What is there of puts that were cut off, under their names."""
        return [
            Flight(name=name, schema=schema, rows=rows, size=-1, version="")
            for name, schema, rows in self._begun.starts(tags)
        ]

    def _grown(self, part: Path, size: int) -> None:
        """Take note of the size of a temporary file, -1 when it is gone.

        Raises:
            NoRoom: the quota does not allow it.
        """
        with self._mutex:
            self._parts.pop(part, None)
            if size >= 0:
                self._parts[part] = size
        if size >= 0 and self._quota is not None and self.used() > self._quota:
            raise NoRoom(
                f"the data server's quota of {self._quota} bytes is reached: drop data there, or "
                "raise its --quota"
            )

    def _names(self) -> list[str]:
        return sorted(entry.name for entry in self._entries())

    def _entries(self) -> Iterator[os.DirEntry[str]]:
        with os.scandir(self.folder) as entries:
            for entry in entries:
                with suppress(DataError):
                    if entry.is_file(follow_symlinks=False) and check_name(entry.name):
                        yield entry

    @contextmanager
    def _opened(self, name: str) -> Iterator[tuple[IO[bytes], str]]:
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK
        try:
            file = os.fdopen(os.open(name, flags, dir_fd=self._handle), "rb")
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ELOOP):
                raise NoSuchFlight(
                    f"there is no {name}: list_flights (flops-fl data ls) says what is there"
                ) from None
            raise DataError(f"{name} cannot be opened: {error.strerror}") from None
        with file:
            found = os.fstat(file.fileno())
            if not stat.S_ISREG(found.st_mode):
                raise NoSuchFlight(f"there is no {name}: it is not a file")
            yield file, version_of(found)

    def _flight(self, name: str, file: IO[bytes], version: str) -> Flight:
        if len(self._known) >= _KNOWN:
            self._known.clear()
        if (name, version) not in self._known:
            try:
                self._known[name, version] = _read_flight(name, file, version)
            except DataError as error:
                log.warning("%s: not served. %s", self.folder, error)
                self._known[name, version] = error
        known = self._known[name, version]
        if isinstance(known, DataError):
            raise DataError(str(known))
        return known


def _read_flight(name: str, file: IO[bytes], version: str) -> Flight:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(file) as parquet:
            schema, rows = parquet.schema_arrow, parquet.metadata.num_rows
    except (pa.ArrowException, OSError, ValueError) as error:
        reason = first_line(error)[:200]
        raise DataError(f"{name} cannot be read as Parquet ({reason}): put it again") from error
    check_schema(name, schema)
    size = os.fstat(file.fileno()).st_size
    return Flight(name=name, schema=schema, rows=rows, size=size, version=version)


def _batches(name: str, parquet: Any, rows: int) -> Iterator[Any]:
    import pyarrow as pa

    try:
        yield from parquet.iter_batches(batch_size=rows)
    except (pa.ArrowException, OSError) as error:
        log.warning("%s cannot be read to its end (%s): replace it", name, error)
        raise DataError(f"{name} is damaged on the data server: put it again") from error
