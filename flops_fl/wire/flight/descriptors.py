"""What stands in Flight's descriptors, tickets and listings: names of data, and marks of a put."""

from __future__ import annotations

import json

import pyarrow as pa
from pyarrow import flight

from flops_fl.data.names import COUNTED, FROM, UNFINISHED
from flops_fl.data.shelf import Flight
from flops_fl.errors import DataError
from flops_fl.wire.flight.messages import Malformed

_DIGITS = 19  # of a number of rows


def named(descriptor: bytes) -> tuple[str, bool, int | None]:
    """The name in a descriptor, whether the rows will be counted at the end, and where they begin.

    None for their beginning: if the put is cut off, nothing of it may stay.

    Raises:
        Malformed: it is no descriptor of data.
    """
    try:
        path = flight.FlightDescriptor.deserialize(descriptor).path
    except pa.ArrowException:
        path = None
    if not path:
        raise Malformed("expected a descriptor with a path: the name TAG.HASH.parquet")
    start = next((mark.removeprefix(FROM) for mark in path[1:] if mark.startswith(FROM)), None)
    if start is not None and not (start.isdigit() and len(start) < _DIGITS):
        raise Malformed(f"expected {FROM.decode()} and a number of rows in the descriptor")
    return text(path[0]), COUNTED in path[1:], None if start is None else int(start)


def text(content: bytes) -> str:
    """A name as text.

    Raises:
        DataError: it is not UTF-8.
    """
    try:
        return content.decode()
    except UnicodeDecodeError:
        raise DataError(f"the name {content[:80]!r}: expected UTF-8") from None


def count(metadata: bytes) -> int:
    """The number of rows in a put's last message; -1 if it has none."""
    try:
        return int(json.loads(metadata)["rows"])
    except (ValueError, KeyError, TypeError, RecursionError):
        return -1


def encode_info(found: Flight, *, unfinished: bool = False) -> bytes:
    """The FlightInfo of a flight, or of what is there of one."""
    name = found.name.encode()
    info = flight.FlightInfo(
        found.schema,
        flight.FlightDescriptor.for_path(name, *([UNFINISHED] if unfinished else [])),
        [] if unfinished else [flight.FlightEndpoint(name, [])],  # no other location: get it here
        found.rows,
        found.size,
        app_metadata=found.version,
    )
    encoded: bytes = info.serialize()
    return encoded
