"""One call of the data server: limits of time, places and threads."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from typing import Any, TypeVar

from flops_fl.wire.hub.link import peer_of

T = TypeVar("T")


class Stream:
    """One call: its messages, each with a limit of time, and how many bytes they have."""

    def __init__(
        self,
        requests: AsyncIterator[bytes],
        context: Any,
        stall: float,
        complain: Callable[[str, str, str], None],
    ) -> None:
        self.peer = peer_of(context)
        self._context = context
        self.received = self.sent = 0
        self._requests = requests
        self._stall = stall
        self._complain = complain

    async def requests(self) -> AsyncIterator[bytes]:
        """The client's messages.

        Raises:
            TimeoutError: the next one takes too long.
        """
        while True:
            try:
                async with asyncio.timeout(self._stall):
                    message = await anext(self._requests)
            except StopAsyncIteration:
                return
            except TimeoutError:
                raise TimeoutError(
                    f"nothing was sent for {self._stall:g} s: put it again"
                ) from None
            self.received += len(message)
            yield message

    async def write(self, message: bytes) -> None:
        """Send a message.

        Raises:
            CancelledError: the client does not read. It would not read why, either: an answer
                would wait in memory behind all that was sent.
        """
        try:
            async with asyncio.timeout(self._stall):
                await self._context.write(message)
        except TimeoutError:
            self._complain(self.peer, "cut off", f"it read nothing for {self._stall:g} s")
            raise asyncio.CancelledError from None
        self.sent += len(message)


class Turn:
    """A place among the streams of a kind, which are limited in number."""

    def __init__(self, places: asyncio.Semaphore, patience: float, verb: str) -> None:
        self._places, self._patience, self._verb = places, 2 * patience, verb

    async def __aenter__(self) -> None:
        try:
            async with asyncio.timeout(self._patience):
                await self._places.acquire()
        except TimeoutError:
            raise TimeoutError(
                f"too many streams are being {self._verb}, none ended within "
                f"{self._patience:g} s: try again later"
            ) from None

    async def __aexit__(self, *error: object) -> None:
        self._places.release()


class OneByOne:
    """Runs blocking steps of a stream in threads, never two at once, also after a cancellation."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._over = False

    async def run(self, step: Callable[[], T]) -> T:
        """Run a step in a thread, after the one before."""

        def locked() -> T:
            with self._lock:
                if self._over:
                    raise asyncio.CancelledError
                return step()

        return await asyncio.to_thread(locked)

    async def last(self, step: Callable[[], None]) -> None:
        """The step that ends all, after the one that may still be running."""

        def locked() -> None:
            with self._lock:
                self._over = True
                step()

        await asyncio.shield(asyncio.to_thread(locked))
