"""Loads a learner's data from data servers: one Dataset of all flights with its tags.

Rows go from Flight's batches into an Arrow table, without a file in between. Large data go to an
Arrow file in the learner's cache, which is mapped, and found again at the next start.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flops_fl.data.names import tag_of, without_data
from flops_fl.data.servers import Dialled, FlightData
from flops_fl.data.tables import join_tables
from flops_fl.errors import DataError, NoSuchFlight
from flops_fl.limits import STALL_TIMEOUT
from flops_fl.text import sentence, some

log = logging.getLogger(__name__)

IN_MEMORY = 64 << 20  # bytes of all flights together; what is beyond goes to a file
UNUSED = 7 * 86400.0  # seconds after which a file of the cache that nobody used is removed
ATTEMPTS = 5  # listings, if data change while they are read
_SHOWN = 8


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


def load_flights(data: FlightData, tags: Sequence[str] = ()) -> Any:
    """Load all flights with one of `tags` as one `datasets.Dataset` with eager columns.

    The rows are in the order of the flights' names, as with a folder of such files.

    Raises:
        DataError: there is no such flight, a name is on two servers, or flights differ in their
            columns or features.
        Unreachable: a server does not answer in time.
        Refused: a server does not let us in.
    """
    import datasets  # noqa: F401 - registers the Arrow extension types of its features

    with ExitStack() as stack:
        dialled = [stack.enter_context(data.dial(server)) for server in data.servers]
        for attempt in range(ATTEMPTS):
            found = _list(dialled, tags)
            store = _Store(data)
            try:
                named = [(str(flight), store.table(flight)) for flight in found]
                break
            except NoSuchFlight:
                if attempt == ATTEMPTS - 1:
                    raise
                log.info("the data have changed while they were read: reading them again")
        store.tidy()
    total = sum(len(table) for _, table in named)
    if missing := without_data(tags, [flight.name for flight in found]):
        said = "no data at %s have a tag among %s: the others are used"
        log.warning(said, _all(data), some(missing, _SHOWN))
    log.info("data: %d rows in %d flights from %s", total, len(found), _all(data))
    return join_tables(named, fingerprint=_fingerprint(found))


def state_of_flights(data: FlightData, tags: Sequence[str] = ()) -> tuple[str, list[str]]:
    """The fingerprint that `load_flights` would give its dataset, and the names; reads no rows.

    Raises:
        FlopsError: see `load_flights`.
    """
    with ExitStack() as stack:
        found = _list([stack.enter_context(data.dial(s)) for s in data.servers], tags)
        return _fingerprint(found), [flight.name for flight in found]


def _fingerprint(found: Sequence[Found]) -> str:
    digest = hashlib.sha256()
    for flight in found:
        digest.update(f"{flight.name}/{flight.size}/".encode() + flight.version + b"\n")
    return digest.hexdigest()[:16]


def _all(data: FlightData) -> str:
    return ", ".join(map(str, data.servers))


def _list(dialled: Sequence[Dialled], tags: Sequence[str]) -> list[Found]:
    """The flights with one of the tags, by name."""
    found: dict[str, Found] = {}
    for one in dialled:
        for flight in list_flights(one, tags):
            if flight.name in found:
                raise DataError(
                    f"{found[flight.name]} and {flight} have the same name: their rows would count "
                    "twice; drop one of them (flops-fl data rm)"
                )
            found[flight.name] = flight
    where = ", ".join(str(one.server) for one in dialled)
    if not found:
        there = {tag_of(flight.name) for one in dialled for flight in list_flights(one)}
        asked = f"with a tag among {some(tags, _SHOWN)} " if tags else ""
        raise DataError(
            f"no data {asked}at {where}: the tags there are {some(there, _SHOWN) or 'none'}"
        )
    return [found[name] for name in sorted(found)]


def list_flights(dialled: Dialled, tags: Sequence[str] = ()) -> list[Found]:
    """The flights of a server with one of the tags; without tags, all.

    Raises:
        FlopsError: see `Dialled.call`.
    """
    criteria = json.dumps({"data_tags": list(tags)}).encode() if tags else b""
    infos = dialled.call(lambda client, options: list(client.list_flights(criteria, options)))
    return [
        Found(
            name=sentence(info.descriptor.path[0].decode(errors="replace")),
            dialled=dialled,
            ticket=info.endpoints[0].ticket.ticket,
            descriptor=info.descriptor.serialize(),
            version=info.app_metadata,
            rows=info.total_records,
            size=info.total_bytes,
        )
        for info in infos
        if info.descriptor.path and info.endpoints
    ]


def opened(flight: Found, client: Any) -> Any:
    """The reader of a flight's batches.

    pyarrow limits only the time of the whole call: each MiB may take as long as elsewhere.
    """
    from pyarrow import flight as arrow

    limit = STALL_TIMEOUT * (2 + max(flight.size, 0) / (1 << 20))
    options = arrow.FlightCallOptions(timeout=limit)
    return client.do_get(arrow.Ticket(flight.ticket), options)


def read_batches(flight: Found) -> Iterator[Any]:
    """The record batches of a flight, as they come.

    Raises:
        FlopsError: see `Dialled.call`; a connection that is cut is not made again.
    """
    reader = flight.dialled.call(lambda client, _: opened(flight, client))
    while (batch := flight.dialled.call(lambda *_: next(reader, None), once=True)) is not None:
        yield batch.data


class _Store:
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
            if size > self._room:
                return self._spooled(reader, held, flight, path)
        self._room -= size
        return pa.Table.from_batches(held, reader.schema)

    def _spooled(self, reader: Any, held: list[Any], flight: Found, path: Path | None) -> Any:
        import pyarrow as pa

        with self._file(path) as (part, keep):
            with pa.OSFile(str(part), "wb") as sink, pa.ipc.new_file(sink, reader.schema) as writer:
                while held:
                    writer.write_batch(held.pop(0))
                for chunk in reader:
                    writer.write_batch(chunk.data)
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
