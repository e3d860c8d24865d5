"""What is still to be written to a stream: in order, by one writer."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from typing import Generic, TypeVar

T = TypeVar("T")


class Pipe(Generic[T]):
    """A queue for one reader, whose items can be taken out again before they are read."""

    def __init__(self) -> None:
        self._items: deque[tuple[str, T]] = deque()
        self._closed = False
        self._waiter: asyncio.Future[None] | None = None
        self._since: float | None = None

    def put(self, item: T, key: str = "") -> None:
        """Append an item; `key` is what `drop` goes by."""
        self._items.append((key, item))
        self._wake()

    def drop(self, key: str) -> bool:
        """Take out all items of `key`, a task's; whether there was one."""
        kept = [pair for pair in self._items if pair[0] != key]
        found = len(kept) < len(self._items)
        if found:
            self._items = deque(kept)
        return found

    def close(self) -> None:
        """Let `get` end after what is there."""
        self._closed = True
        self._wake()

    async def get(self) -> T | None:
        """The next item, waited for; None at the end. The one before counts as written."""
        self._since = None
        while not self._items:
            if self._closed:
                return None
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter
        self.progress()
        return self._items.popleft()[1]

    def progress(self) -> None:
        """A piece of what `get` gave has been written."""
        self._since = time.monotonic()

    def stuck_for(self) -> float:
        """Seconds for which the other end has taken nothing of what it was given."""
        return 0.0 if self._since is None else time.monotonic() - self._since

    def _wake(self) -> None:
        if self._waiter and not self._waiter.done():
            self._waiter.set_result(None)
