"""Loads a learner's data from data servers: one Dataset of all flights with its tags.

Rows go from Flight's batches into an Arrow table, without a Parquet file in between.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from typing import Any

from flops_fl.data.names import tag_of, without_data
from flops_fl.data.servers import Dialled, FlightData
from flops_fl.data.store import Found, Store, opened
from flops_fl.data.tables import join_tables
from flops_fl.errors import DataError, NoSuchFlight
from flops_fl.text import counted, sentence, some

log = logging.getLogger(__name__)

ATTEMPTS = 5  # listings, if data change while they are read
_SHOWN = 8


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
            store = Store(data)
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
    rows, flights = counted(total, "row"), counted(len(found), "flight")
    log.info("data: %s in %s from %s", rows, flights, _all(data))
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
                    "twice; if these are two servers, drop one of them (flops-fl data rm)"
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


def read_batches(flight: Found) -> Iterator[Any]:
    """The record batches of a flight, as they come.

    Raises:
        FlopsError: see `Dialled.call`; a connection that is cut is not made again.
    """
    reader = flight.dialled.call(lambda client, _: opened(flight, client))
    while (batch := flight.dialled.call(lambda *_: next(reader, None), once=True)) is not None:
        yield batch.data
