"""The tables of flights at a learner: small ones in memory, large ones in files that are mapped.

The files are in the learner's cache, and found again at the next start.
"""

from __future__ import annotations

import hashlib
import logging
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flops_fl.data.servers import Dialled, FlightData
from flops_fl.errors import DataError, NoSuchFlight
from flops_fl.limits import STALL_TIMEOUT

log = logging.getLogger(__name__)

IN_MEMORY = 64 << 20  # bytes of all flights together; what is beyond goes to a file
UNUSED = 7 * 86400.0  # seconds after which a file of the cache that nobody used is removed


@dataclass(frozen=True, kw_only=True, slots=True)
class Found:
    """A flight on a server."""

    name: str
    dialled: Dialled
    ticket: bytes
    descriptor: bytes
    version: bytes
    """Changes with the content; empty if the server does not tell."""
    rows: int
    """-1 if the server does not tell."""
    size: int
    """Bytes on the server's disk; -1 if it does not tell."""

    def __str__(self) -> str:
        return f"{self.name} at {self.dialled.server}"


def opened(flight: Found, client: Any) -> Any:
    """The reader of a flight's batches.

    pyarrow limits only the time of the whole call: each MiB may take as long as elsewhere.
    """
    from pyarrow import flight as arrow

    limit = STALL_TIMEOUT * (2 + max(flight.size, 0) / (1 << 20))
    options = arrow.FlightCallOptions(timeout=limit)
    return client.do_get(arrow.Ticket(flight.ticket), options)


class Store:
    """Tables of one load: small ones in memory, the rest in files."""

    def __init__(self, data: FlightData) -> None:
        self._given = data.cache
        self._used: set[Path] = set()
        self._room = IN_MEMORY

    def table(self, flight: Found) -> Any:
        """The table of a flight, from the cache if it is there.

        Raises:
            FlopsError: see `Dialled.call`.
        """
        path = self._path(flight)
        if path is not None and (table := _mapped(path)) is not None:
            self._used.add(path)
            os.utime(path)
            log.info("%s: from %s", flight.name, path)
            return table
        table = flight.dialled.call(
            lambda client, options: self._read(opened(flight, client), flight, path)
        )
        if flight.version and self._version(flight) != flight.version:
            raise NoSuchFlight(f"{flight} has been replaced while it was read")
        return table

    def _version(self, flight: Found) -> bytes:
        from pyarrow import flight as arrow

        descriptor = arrow.FlightDescriptor.deserialize(flight.descriptor)
        info = flight.dialled.call(
            lambda client, options: client.get_flight_info(descriptor, options)
        )
        version: bytes = info.app_metadata
        return version

    def _read(self, reader: Any, flight: Found, path: Path | None) -> Any:
        """Read a flight to its end, into memory or a file."""
        import pyarrow as pa

        held, size = [], 0
        for chunk in reader:
            held.append(chunk.data)
            size += chunk.data.nbytes
            flight.dialled.heard(size)
            if size > self._room:
                return self._spooled(reader, held, flight, path)
        self._room -= size
        return pa.Table.from_batches(held, reader.schema)

    def _spooled(self, reader: Any, held: list[Any], flight: Found, path: Path | None) -> Any:
        import pyarrow as pa

        with self._file(path) as (part, keep):
            with _Writer(part, reader.schema) as writer:
                while held:
                    writer.add(held.pop(0))
                for chunk in reader:
                    writer.add(chunk.data)
                    flight.dialled.heard(writer.size)
            table = pa.ipc.open_file(pa.memory_map(str(part))).read_all()
            if keep is not None:
                os.replace(part, keep)
                self._used.add(keep)
        return table

    @contextmanager
    def _file(self, path: Path | None) -> Iterator[tuple[Path, Path | None]]:
        """A new file, and where to keep it; None to remove it when it is no longer mapped."""
        for folder in (path.parent if path else None, None):
            try:
                if folder is not None:
                    folder.mkdir(parents=True, exist_ok=True)
                handle, name = tempfile.mkstemp(".part", "flight-", folder)
            except OSError as error:
                if folder is None:
                    raise
                log.warning(
                    "%s cannot be written (%s): large data are read again at each start, give a "
                    "folder for them with --data-cache", folder, error.strerror,
                )  # fmt: skip
                continue
            os.close(handle)
            try:
                yield Path(name), path if folder else None
            finally:
                Path(name).unlink(missing_ok=True)
            return

    def _path(self, flight: Found) -> Path | None:
        if not flight.version:
            return None
        key = hashlib.sha256(flight.name.encode() + b"\0" + flight.version).hexdigest()[:32]
        return self._folder / f"{key}.arrow"

    @property
    def _folder(self) -> Path:
        if self._given is not None:
            return self._given
        home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
        return Path(home) / "flops-fl"

    def tidy(self) -> None:
        """Remove what was not used for long, and what a killed process has left."""
        old = time.time() - UNUSED
        for pattern in ("*.arrow", "flight-*.part"):
            for path in self._folder.glob(pattern):
                with suppress(OSError):
                    if path not in self._used and path.stat().st_mtime < old:
                        path.unlink()


class _Writer:
    """Writes batches to an Arrow file."""

    def __init__(self, path: Path, schema: Any) -> None:
        import pyarrow as pa

        self.size = 0
        self._path = path
        self._sink = pa.OSFile(str(path), "wb")
        self._writer = pa.ipc.new_file(self._sink, schema)

    def __enter__(self) -> _Writer:
        return self

    def __exit__(self, kind: type[BaseException] | None, *error: object) -> None:
        try:
            self._do(self._writer.close)
        except DataError:
            if kind is None:
                raise
        finally:
            self._sink.close()

    def add(self, batch: Any) -> None:
        """Write a `pyarrow.RecordBatch`.

        Raises:
            DataError: there is no room.
        """
        self._do(lambda: self._writer.write_batch(batch))
        self.size += batch.nbytes

    def _do(self, step: Callable[[], None]) -> None:
        try:
            step()
        except OSError as error:  # not the server's fault
            reason = os.strerror(error.errno) if error.errno else str(error)
            raise DataError(
                f"{self._path.parent} cannot take large data ({reason}): make room, or give "
                "another folder with --data-cache"
            ) from error


def _mapped(path: Path) -> Any:
    """The table in a file of the cache; None if there is none that can be read."""
    import pyarrow as pa

    try:
        return pa.ipc.open_file(pa.memory_map(str(path))).read_all()
    except FileNotFoundError:
        return None
    except (OSError, pa.ArrowException) as error:
        log.warning("%s cannot be read (%s): the data are read from the server", path, error)
        return None
