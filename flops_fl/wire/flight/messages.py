"""Arrow Flight's messages and methods, on the gRPC server of this package.

pyarrow has a Flight server of its own. It takes messages of any size, compressed ones, too, keeps a
thread for each stream, and cannot end a stream whose other side has stopped reading. This one
shares the aggregator's server: its TLS, limits, pings and health service.

Source: https://arrow.apache.org/docs/format/Flight.html, Flight.proto.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

SERVICE = "arrow.flight.protocol.FlightService"

# Fields of FlightData, PutResult and Criteria: all have wire type 2, a length and bytes.
_DESCRIPTOR, _HEADER, _METADATA, _BODY = 1, 2, 3, 1000
_FIRST = 1
_MARK = 8  # bytes before a message's header in Arrow's encapsulated form


class Malformed(ValueError):
    """Bytes that are not what Flight's messages are."""


@dataclass(frozen=True, kw_only=True, slots=True)
class FlightData:
    """One message of a stream: Arrow's header and body, and what may go with them."""

    descriptor: bytes = b""
    header: bytes = b""
    metadata: bytes = b""
    body: bytes = b""


def decode(message: bytes) -> FlightData:
    """Read one message of a stream.

    Raises:
        Malformed: it is none.
    """
    found = dict(_fields(message))
    return FlightData(
        descriptor=found.get(_DESCRIPTOR, b""),
        header=found.get(_HEADER, b""),
        metadata=found.get(_METADATA, b""),
        body=found.get(_BODY, b""),
    )


def encode(encapsulated: Any) -> bytes:
    """The message of a stream for a schema or a batch, as pyarrow has serialised it."""
    whole = memoryview(encapsulated)
    end = _MARK + int.from_bytes(whole[4:_MARK], "little")
    header, body = whole[_MARK:end], whole[end:]
    return b"".join((*_field(_HEADER, header), *_field(_BODY, body)))


def encode_first(content: bytes) -> bytes:
    """A message whose only field is number 1: PutResult and Result."""
    return b"".join(_field(_FIRST, content))


def encode_pair(first: bytes, second: bytes) -> bytes:
    """A message with the fields 1 and 2: ActionType."""
    return b"".join((*_field(_FIRST, first), *_field(_FIRST + 1, second)))


def first_field(message: bytes) -> bytes:
    """The field number 1 of a message: of Criteria and Ticket the only one.

    Raises:
        Malformed: it is no message.
    """
    return dict(_fields(message)).get(_FIRST, b"")


def _field(number: int, content: Any) -> tuple[bytes, bytes, Any]:
    return _varint(number << 3 | 2), _varint(len(content)), content


def _fields(message: bytes) -> Iterator[tuple[int, bytes]]:
    """Numbers and contents of a message's fields, all of which must be bytes."""
    at = 0
    while at < len(message):
        key, at = _read_varint(message, at)
        size, at = _read_varint(message, at)
        if key & 7 != 2 or at + size > len(message):
            raise Malformed("a field that no message of Flight has")
        yield key >> 3, message[at : at + size]
        at += size


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def _read_varint(message: bytes, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 64, 7):
        if at >= len(message):
            raise Malformed("a message of Flight that is cut off")
        byte = message[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise Malformed("a number that is too long")
