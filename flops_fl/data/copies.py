"""Flights as they are sent: Arrow's messages, ready made in files beside the Parquet files.

To read Parquet and to build messages takes longer than to send them. So the batches of a put are
kept as messages, too, and so are those of the first reading after a start. Their files have no
names, and end with the process. They give way if the disk or the quota is short.
"""

from __future__ import annotations

import mmap
import os
import tempfile
import threading
from collections import OrderedDict, deque
from collections.abc import Callable, Generator, Iterable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import IO, Any

from flops_fl.data.names import PART
from flops_fl.data.tables import rows_within

MESSAGE = 1 << 20  # bytes of a batch that is sent
KEPT = 2 << 30  # bytes of all copies that are whole
FILES = 256
SPARE = 256 << 20  # bytes of the disk that copies leave to the data


class Messages:
    """The messages of a flight's batches, as pyarrow serialises them, one after another."""

    def __init__(self, given: Generator[Any]) -> None:
        self._given = given

    def following(self) -> Any:
        """The next one; None at the end."""
        return next(self._given, None)

    def at_hand(self) -> bool:
        """Whether the next one is in memory already."""
        return False

    def close(self) -> None:
        """Give up what is needed to read them."""
        self._given.close()


class _Mapped(Messages):
    """The messages in a file, from one end to the next."""

    def __init__(self, file: int, ends: Sequence[int]) -> None:
        self._whole = memoryview(mmap.mmap(file, ends[-1], prot=mmap.PROT_READ))
        self._file = os.dup(file)
        self._left = deque(pairwise(ends))

    def following(self) -> Any:
        if not self._left:
            return None
        at_hand = self.at_hand()
        start, end = self._left.popleft()
        # To touch a page that is only on the disk would hold up all of Python's threads.
        return self._whole[start:end] if at_hand else os.pread(self._file, end - start, start)

    def at_hand(self) -> bool:
        if not self._left:
            return True
        try:
            return bool(os.preadv(self._file, [bytearray(1)], self._left[0][1] - 1, os.RWF_NOWAIT))
        except (OSError, AttributeError):  # no, or a system that cannot tell
            return False

    def close(self) -> None:
        os.close(self._file)


class Copy:
    """A flight's messages in a file: an Arrow IPC stream without its end.

    Args:
        path: The file's name until it is whole; None if it has none.
        size: Bytes in the file.
        rows: Rows in the file.
    """

    def __init__(
        self, owner: Copies, file: IO[bytes], path: Path | None, size: int = 0, rows: int = 0
    ) -> None:
        self.path, self.rows = path, rows
        self.closed = False
        """Whether it is of no use any more."""
        self._owner, self._file = owner, file
        self._ends = [0, size] if size else [0]

    @property
    def size(self) -> int:
        """Bytes of the file."""
        return self._ends[-1]

    @property
    def left(self) -> bool:
        """Whether it has a name and nobody adds to it."""
        return not self.closed and self._file.closed

    def add(self, message: Any, rows: int = 0) -> None:
        """Add a message as pyarrow serialises it; if there is no room, close the copy."""
        if self.closed:
            return
        end = self.size + len(message)
        if (end > KEPT and not self.path) or not self._owner.room(len(message)):
            self.close()
            return
        self._ends.append(end)
        try:
            self._file.write(message)
            self._file.flush()
            self.rows += rows
        except OSError:
            self.close()

    def messages(self) -> Messages:
        """The batches' messages."""
        return _Mapped(self._file.fileno(), self._ends[1:])

    def leave(self) -> None:
        """Leave the file under its name."""
        self._file.close()

    def lose_name(self) -> None:
        """Let the file end with the process."""
        if self.path is not None:
            self.path.unlink(missing_ok=True)
            self.path = None

    def close(self) -> None:
        """Give up the file; who reads it reads on."""
        if not self.closed:
            self.closed = True
            self._file.close()
            self.lose_name()
            self._owner.room(-self.size)


class Copies:
    """The copies of a folder's flights. Its methods may be called from any thread.

    Args:
        quota: Bytes that all copies together may have; None for what the disk has.
    """

    def __init__(self, folder: Path, quota: int | None) -> None:
        self._folder, self._quota = folder, quota
        self._whole: OrderedDict[str, tuple[str, Copy]] = OrderedDict()
        self._making: set[str] = set()
        self._taken = 0
        self.mutex = threading.RLock()
        self.last_resort: Callable[[], bool] = lambda: False
        """Makes room if there is no other copy to give up; False if it cannot."""

    def begin(self, schema: Any, path: Path | None = None) -> Copy | None:
        """Begin a copy; None if the folder cannot be written."""
        try:
            file = path.open("x+b") if path else _nameless(self._folder)
        except OSError:
            return None
        copy = Copy(self, file, path)
        copy.add(schema.serialize())
        return copy

    def found(self, path: Path, size: int, rows: int) -> Copy:
        """A copy that an earlier process has left."""
        self.room(size)
        copy = Copy(self, path.open("rb"), path, size, rows)
        copy.leave()
        return copy

    def keep(self, name: str, version: str, copy: Copy) -> None:
        """Keep a copy that is whole, for this version of a flight."""
        with self.mutex:
            self.forget(name)
            copy.lose_name()
            if copy.closed:
                return
            self._whole[name] = version, copy
            while len(self._whole) > FILES or sum(c.size for _, c in self._whole.values()) > KEPT:
                self.forget(next(iter(self._whole)))

    def messages(self, name: str, version: str) -> Messages | None:
        """The messages of a flight's batches; None if there is no copy of this version."""
        with self.mutex:
            kept, copy = self._whole.get(name, ("", None))
            if copy is None or kept != version:
                return None
            self._whole.move_to_end(name)
            return copy.messages()

    def made(self, name: str, version: str, schema: Any, batches: Iterable[Any]) -> Messages:
        """The messages of a flight's batches; when the last one was taken there is a copy."""
        return Messages(self._made(name, version, schema, batches))

    def _made(self, name: str, version: str, schema: Any, batches: Iterable[Any]) -> Generator[Any]:
        with self.mutex:
            copy = None if name in self._making else self.begin(schema)
            if copy is not None:
                self._making.add(name)
        if copy is None:
            yield from (batch.serialize() for batch in batches)
            return
        try:
            for batch in batches:
                message = batch.serialize()
                copy.add(message)
                yield message
            self.keep(name, version, copy)
        except BaseException:
            copy.close()
            raise
        finally:
            self._making.discard(name)

    def forget(self, name: str) -> None:
        """Close the copy of this name."""
        with self.mutex:
            if name in self._whole:
                self._whole.pop(name)[1].close()

    def close(self) -> None:
        """Close all copies."""
        for name in list(self._whole):
            self.forget(name)

    def room(self, size: int) -> bool:
        """Take so many bytes more, if there is room; old copies go for it."""
        with self.mutex:
            while size > 0 and self._full(size):
                if not self._dropped():
                    return False
            self._taken += size
            return True

    def give_way(self) -> None:
        """Let old copies go until the disk has `SPARE` bytes."""
        with self.mutex:
            while self._short(0) and self._dropped():
                pass

    def _dropped(self) -> bool:
        if not self._whole:
            return self.last_resort()
        self.forget(next(iter(self._whole)))
        return True

    def _full(self, size: int) -> bool:
        if self._quota is not None and self._taken + size > self._quota:
            return True
        return self._short(size)

    def _short(self, size: int) -> bool:
        disk = os.statvfs(self._folder)
        return disk.f_bavail * disk.f_frsize < SPARE + size


def _nameless(folder: Path) -> IO[bytes]:
    return tempfile.TemporaryFile(prefix=".copy-", suffix=PART, dir=folder)


def add_table(copy: Copy, table: Any) -> None:
    """Add a table's rows in batches of about `MESSAGE` bytes, if a row is no larger."""
    rows = rows_within(MESSAGE, len(table), table.nbytes)
    batches = table.combine_chunks().to_batches(max_chunksize=rows)
    for batch in batches:
        copy.add(batch.serialize(), len(batch))


def version_of(found: os.stat_result) -> str:
    """Another one after each change of a file."""
    return f"{found.st_ino:x}-{found.st_size:x}-{found.st_mtime_ns:x}"
