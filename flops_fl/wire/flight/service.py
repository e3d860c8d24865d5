"""The data server's answers to Arrow Flight's methods; each stream is served in bounded memory."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import ExitStack
from functools import partial
from typing import Any, Literal, TypeAlias

import grpc
import pyarrow as pa
from pyarrow import flight

from flops_fl.data.arriving import read_batch, read_schema
from flops_fl.data.copies import Messages
from flops_fl.data.names import check_name, read_criteria
from flops_fl.data.shelf import Shelf
from flops_fl.data.writing import Put
from flops_fl.errors import DataError, FlopsError, NoRoom, NoSuchFlight, Refused
from flops_fl.net.identity import Role
from flops_fl.net.tls import role_in
from flops_fl.text import sentence
from flops_fl.wire.flight.descriptors import count, encode_info, named, text
from flops_fl.wire.flight.messages import (
    SERVICE,
    Malformed,
    decode,
    encode,
    encode_first,
    encode_pair,
    first_field,
)
from flops_fl.wire.flight.stream import OneByOne, Stream, Turn
from flops_fl.wire.hub.complaints import Complaints
from flops_fl.wire.hub.server import Join

log = logging.getLogger(__name__)

READERS, WRITERS = 64, 16  # streams of one kind that are served at the same time; others wait
DROP = "drop_dataset"

Right: TypeAlias = Literal["look", "read", "write"]
RIGHTS: Mapping[Right, tuple[Role, ...]] = {
    "look": ("device", "learner"),
    "read": ("learner",),
    "write": ("device",),
}
"""The roles that may list, read, or put and drop."""
_CODES: Mapping[type[Exception], grpc.StatusCode] = {
    NoSuchFlight: grpc.StatusCode.NOT_FOUND,
    NoRoom: grpc.StatusCode.RESOURCE_EXHAUSTED,
    Refused: grpc.StatusCode.PERMISSION_DENIED,
    NotImplementedError: grpc.StatusCode.UNIMPLEMENTED,
    TimeoutError: grpc.StatusCode.DEADLINE_EXCEEDED,
    FlopsError: grpc.StatusCode.INVALID_ARGUMENT,
    Malformed: grpc.StatusCode.INVALID_ARGUMENT,
}
Work: TypeAlias = Callable[[AsyncIterator[bytes], Any], Coroutine[Any, Any, None]]
Told: TypeAlias = Callable[[str, str, int, int], None]
"""Told of each call that has ended: its method, its outcome, and bytes received and sent."""


class FlightService:
    """Serves a shelf.

    Args:
        stall: Seconds that the next message of a stream, in either direction, may take.
        told: Called after each call.
    """

    def __init__(self, shelf: Shelf, *, stall: float, told: Told) -> None:
        self._shelf = shelf
        self._stall = stall
        self._told = told
        self._complaints = Complaints("call")
        self._readers = asyncio.Semaphore(READERS)
        self._writers = asyncio.Semaphore(WRITERS)

    def close(self) -> None:
        """Say in the log what was counted until now."""
        self._complaints.close()

    @property
    def services(self) -> Mapping[str, Join]:
        """The function of each gRPC method."""
        methods: dict[str, tuple[Right, Work]] = {
            "ListFlights": ("look", self._list),
            "GetFlightInfo": ("look", self._info),
            "GetSchema": ("look", self._schema),
            "DoGet": ("read", self._get),
            "DoPut": ("write", self._put),
            "DoAction": ("write", self._act),
            "ListActions": ("look", self._actions),
        }
        return {
            f"/{SERVICE}/{name}": self._guarded(name, right, work)
            for name, (right, work) in methods.items()
        }

    def _guarded(self, method: str, right: Right, work: Work) -> Join:
        async def join(requests: AsyncIterator[bytes], context: Any) -> None:
            stream = Stream(requests, context, self._stall, partial(self._complaints.warn, method))
            outcome = "cut"
            try:
                _require(context, right)
                await work(stream.requests(), stream)
                outcome = "good"
            except (asyncio.CancelledError, grpc.aio.AbortError):
                raise
            except Exception as error:
                outcome = "refused"
                code = next((_CODES[kind] for kind in _CODES if isinstance(error, kind)), None)
                said = str(error)
                if code is None:
                    outcome, code = "failed", grpc.StatusCode.INTERNAL
                    said = "a fault of the data server: its log has more"
                    log.exception("%s from %s failed", method, stream.peer)
                else:
                    self._complaints.warn(method, stream.peer, "refused", sentence(said))
                await context.abort(code, said)
            finally:
                self._told(method, outcome, stream.received, stream.sent)

        return join

    async def _list(self, requests: AsyncIterator[bytes], stream: Stream) -> None:
        tags, unfinished = read_criteria(first_field(await _first(requests)))
        flights = self._shelf.flights(tags)
        while (info := await asyncio.to_thread(_next_info, flights)) is not None:
            await stream.write(info)
        for begun in self._shelf.begun(tags) if unfinished else ():
            await stream.write(encode_info(begun, unfinished=True))

    async def _info(self, requests: AsyncIterator[bytes], stream: Stream) -> None:
        name, *_ = named(await _first(requests))
        await stream.write(encode_info(await asyncio.to_thread(self._shelf.flight, name)))

    async def _schema(self, requests: AsyncIterator[bytes], stream: Stream) -> None:
        name, *_ = named(await _first(requests))
        found = await asyncio.to_thread(self._shelf.flight, name)
        await stream.write(encode_first(found.schema.serialize()))

    async def _get(self, requests: AsyncIterator[bytes], stream: Stream) -> None:
        name = text(first_field(await _first(requests)))
        async with Turn(self._readers, self._stall, "read"):
            one, stack = OneByOne(), ExitStack()
            following: asyncio.Future[bytes | None] | None = None
            try:
                found, messages = await one.run(
                    lambda: stack.enter_context(self._shelf.reading(name))
                )
                await stream.write(encode(found.schema.serialize()))
                following = _following(one, messages)
                while message := await following:  # the next one is read while this one is sent
                    following = _following(one, messages)
                    await stream.write(message)
            finally:
                if following:
                    following.cancel()
                await one.last(stack.close)

    async def _put(self, requests: AsyncIterator[bytes], stream: Stream) -> None:
        async with Turn(self._writers, self._stall, "written"):
            first = decode(await _first(requests))
            name, counted, start = named(first.descriptor)
            schema = await asyncio.to_thread(read_schema, sentence(name, 80), first.header)
            one = OneByOne()
            put: list[Put] = []
            said, cut = -1, False
            try:
                await one.run(lambda: put.append(self._shelf.put(name, schema, start)))
                async for message in requests:
                    data = decode(message)
                    if data.header:
                        await one.run(
                            lambda data=data: put[0].add(  # type: ignore[misc]
                                read_batch(name, schema, data.header, data.body)
                            )
                        )
                    elif counted:
                        said = count(data.metadata)
                if counted and said != put[0].rows:
                    cut = True
                    raise DataError(
                        f"{name} was cut off after {put[0].rows} rows and "
                        f"{'nothing of it is' if start is None else 'they are'} kept: put it again"
                    )
                name = await one.run(put[0].finish)
                log.info("%s: %d rows from %s", name, put[0].rows, stream.peer)
            except (asyncio.CancelledError, TimeoutError):
                cut = True
                raise
            finally:
                await one.last(lambda: _end(put, cut))
            await stream.write(encode_first(name.encode()))

    async def _act(self, requests: AsyncIterator[bytes], stream: Stream) -> None:
        try:
            action = flight.Action.deserialize(await _first(requests))
        except pa.ArrowException as error:
            raise Malformed(str(error)) from error
        if action.type != DROP:
            raise NotImplementedError(
                f"no action {sentence(action.type, 60)!r}: there is {DROP}, its body is a name"
            )
        name = check_name(text(action.body.to_pybytes()))
        await asyncio.to_thread(self._shelf.drop, name)
        log.info("%s: dropped by %s", name, stream.peer)
        await stream.write(encode_first(b""))

    async def _actions(self, requests: AsyncIterator[bytes], stream: Stream) -> None:
        await _first(requests)
        await stream.write(encode_pair(DROP.encode(), b"Remove the data of this name."))


def _require(context: Any, right: Right) -> None:
    """Check that the client's certificate allows it; without mutual TLS everybody may do all.

    Raises:
        Refused: it does not.
    """
    shown = context.auth_context().get("x509_pem_cert")
    if not shown:
        return
    role = role_in(shown[0])
    if role not in RIGHTS[right]:
        needed = " or ".join(RIGHTS[right])
        raise Refused(
            f"a certificate of the role {role or 'nobody'} does not allow to {right} data: use "
            f"one signed with --role {needed}"
        )


async def _first(requests: AsyncIterator[bytes]) -> bytes:
    async for message in requests:
        return message
    raise Malformed("a call without a message")


def _end(put: list[Put], cut: bool) -> None:
    for each in put:
        each.leave() if cut else each.discard()


def _next_info(flights: Any) -> bytes | None:
    found = next(flights, None)
    return None if found is None else encode_info(found)


def _following(one: OneByOne, messages: Messages) -> asyncio.Future[bytes | None]:
    """The next message; a thread waits for it, unless it is in memory."""
    if not messages.at_hand():
        return asyncio.create_task(one.run(lambda: _next_message(messages)))
    found: asyncio.Future[bytes | None] = asyncio.Future()
    found.set_result(_next_message(messages))
    return found


def _next_message(messages: Messages) -> bytes | None:
    message = messages.following()
    return None if message is None else encode(message)
