"""Puts rows on a data server: streamed, named by their content, repeated after a cut."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import Any

from flops_fl.data.arriving import check_schema
from flops_fl.data.content import ContentHash
from flops_fl.data.flights import list_flights
from flops_fl.data.names import COUNTED, FROM, SUFFIX, UNFINISHED, check_tag
from flops_fl.data.progress import followed
from flops_fl.data.rows import Rows
from flops_fl.data.servers import Dialled
from flops_fl.errors import NoSuchFlight, Unreachable

log = logging.getLogger(__name__)

SENDING = "sending"


@dataclass(frozen=True, slots=True)
class Sent:
    """A flight on a server, and whether it was there already."""

    name: str
    added: bool


def send(rows: Rows, tag: str, dialled: Dialled, *, bar: bool = False) -> Sent:
    """Put rows under a tag; the same rows again add nothing.

    Rows that can be repeated are hashed first, and not sent if the server has them. A put that was
    cut off, also of another process, goes on where it stopped. Other rows are sent as they come,
    and the server makes the name.

    Args:
        bar: Whether a bar may show how far it is; else the log says it.

    Raises:
        UsageError: the tag cannot be used.
        DataError: the server refuses the rows, or they cannot be read.
        Unreachable, Refused: see `Dialled.call`. Of rows that were cut off nothing is kept.
    """
    check_tag(tag)
    check_schema(rows.source or tag, rows.schema)
    if not rows.repeatable:
        list_flights(dialled, [tag])  # wait until the server is there: the rows come only once
        with closing(followed(rows.batches(), SENDING, None, bar=bar)) as batches:
            said = dialled.call(_putting(tag, rows.schema, batches), once=True)
        return Sent(said or tag, True)
    digest, size = ContentHash(rows.schema), 0
    for batch in followed(rows.batches(), "reading", None, bar=bar):
        digest.add(batch)
        size += batch.nbytes
    name = f"{tag}.{digest.hexdigest()}{SUFFIX}"
    most, end, pause, added = -1, 0.0, 0.1, False
    while (start := _start(dialled, tag, name)) is not None:
        if start > most:
            most, end, pause = start, time.monotonic() + dialled.patience, 0.1
        if start:
            log.info("%s: %d rows are there already, it goes on with the next one", name, start)
        try:
            with closing(followed(rows.batches(), SENDING, size, bar=bar)) as batches:
                dialled.call(_putting(name, rows.schema, batches, start), once=True)
            added = True
            break
        except (Unreachable, NoSuchFlight) as cut:
            if time.monotonic() + pause > end:
                raise
            log.info("%s", cut)
            added = True  # all of it may have arrived
            time.sleep(pause)
            pause = min(2 * pause, dialled.max_backoff)
    return Sent(name, added)


def _start(dialled: Dialled, tag: str, name: str) -> int | None:
    """How many rows of it the server has; None if it has all."""
    criteria = json.dumps({"data_tags": [tag], UNFINISHED: True}).encode()
    infos = dialled.call(lambda client, options: list(client.list_flights(criteria, options)))
    found = [info for info in infos if info.descriptor.path[:1] == [name.encode()]]
    if any(info.endpoints for info in found):
        return None
    return max((info.total_records for info in found), default=0)


def _putting(
    name: str, schema: Any, batches: Iterator[Any], start: int | None = None
) -> Callable[[Any, Any], str]:
    """A put, as a step for `Dialled.call`; it gives the name that the server has given."""
    from pyarrow import ArrowException, flight

    def step(client: Any, _: Any) -> str:
        begins = [] if start is None else [FROM + str(start).encode()]
        descriptor = flight.FlightDescriptor.for_path(name.encode(), COUNTED, *begins)
        writer, reader = client.do_put(descriptor, schema)
        count, left = start or 0, _without(batches, start or 0)
        while (batch := next(left, None)) is not None:  # what it raises leaves the put uncounted
            try:
                writer.write_batch(batch)
            except (ArrowException, OSError):
                writer.close()  # raises the server's reason
                raise
            count += len(batch)
        try:
            writer.write_metadata(json.dumps({"rows": count}).encode())
            writer.done_writing()
            answer = reader.read()
        except (ArrowException, OSError):
            writer.close()
            raise
        writer.close()
        return bytes(answer).decode() if answer is not None else ""

    return step


def _without(batches: Iterator[Any], rows: int) -> Iterator[Any]:
    """The batches without their first rows."""
    for batch in batches:
        if rows < len(batch):
            yield batch.slice(rows)
        rows = max(0, rows - len(batch))
