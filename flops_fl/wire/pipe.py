"""A queue of what one writer has yet to write to a stream."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from typing import Generic, TypeVar

T = TypeVar("T")


class Pipe(Generic[T]):
    """A queue for one reader. Items can be taken out again before they are read."""

    def __init__(self) -> None:
        self._items: deque[tuple[str, T]] = deque()
        self._closed = False
        self._waiter: asyncio.Future[None] | None = None
        self._since: float | None = None

    def put(self, item: T, key: str = "") -> None:
        """Append an item; `drop` takes out items by `key`."""
        self._items.append((key, item))
        self._wake()

    def drop(self, key: str) -> bool:
        """Take out all items of `key`, a task's key. Returns whether there was one."""
        kept = [pair for pair in self._items if pair[0] != key]
        found = len(kept) < len(self._items)
        if found:
            self._items = deque(kept)
        return found

    def close(self) -> None:
        """Let `get` return None after the items that are queued."""
        self._closed = True
        self._wake()

    async def get(self) -> T | None:
        """Wait for the next item; None at the end. The call counts the last item as written."""
        self._since = None
        while not self._items:
            if self._closed:
                return None
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter
        self.progress()
        return self._items.popleft()[1]

    def progress(self) -> None:
        """Take note that the reader has written a piece of its item."""
        self._since = time.monotonic()

    def stuck_for(self) -> float:
        """Seconds for which the other end has taken nothing of what it was given."""
        return 0.0 if self._since is None else time.monotonic() - self._since

    def _wake(self) -> None:
        if self._waiter and not self._waiter.done():
            self._waiter.set_result(None)
