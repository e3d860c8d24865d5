"""Puts that were cut off: what has arrived stays for a day, so that their senders go on from there.

It is in a hidden file, an Arrow IPC stream to which whole messages are added. So the file of a
server that was killed can be read up to its last whole message.
"""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flops_fl.data.copies import Copies, Copy
from flops_fl.data.names import BEGUN, check_name, has_tag
from flops_fl.errors import DataError, NoSuchFlight

LIFE = 86400.0  # seconds
MOST = 64  # puts


@dataclass(frozen=True, slots=True)
class _Begun:
    name: str
    schema: Any
    copy: Copy
    since: float
    """Seconds since the epoch."""


class Begun:
    """The puts that were begun in a folder. Its methods may be called from any thread."""

    def __init__(self, folder: Path, copies: Copies) -> None:
        self._folder, self._copies = folder, copies
        self._all: list[_Begun] = []
        self._mutex = copies.mutex  # of both: each calls the other
        copies.last_resort = self._drop_oldest
        for path in folder.glob(f".*{BEGUN}"):
            self._find(path)
        self._all.sort(key=lambda begun: begun.since)

    def _find(self, path: Path) -> None:
        """Take in what an earlier process has left."""
        import pyarrow as pa

        name = path.name[1 : -len(BEGUN)].rpartition(".")[0]
        found = path.lstat()
        if not stat.S_ISREG(found.st_mode):
            return
        try:
            with pa.memory_map(str(path)) as source:
                reader = pa.ipc.open_stream(source)
                rows = sum(len(batch) for batch in _whole(reader))
            copy = self._copies.found(path, found.st_size, rows)
            self._all.append(_Begun(check_name(name), reader.schema, copy, found.st_mtime))
        except (DataError, pa.ArrowException, OSError):
            path.unlink(missing_ok=True)

    def begin(self, name: str, schema: Any) -> Copy | None:
        """Begin a put of which will stay what has arrived; None if the folder cannot be written."""
        path = self._folder / f".{name}.{os.urandom(6).hex()}{BEGUN}"
        copy = self._copies.begin(schema, path)
        if copy is not None:
            with self._mutex:
                self._all.append(_Begun(name, schema, copy, time.time()))
        return copy

    def starts(self, tags: Sequence[str]) -> list[tuple[str, Any, int]]:
        """The name, the schema and the rows that are there of each put that was begun."""
        best: dict[str, _Begun] = {}
        for begun in self._alive():
            held = best.get(begun.name)
            if has_tag(begun.name, tags) and (held is None or held.copy.rows < begun.copy.rows):
                best[begun.name] = begun
        return [(b.name, b.schema, b.copy.rows) for b in best.values() if b.copy.rows]

    def batches(self, name: str, schema: Any, rows: int) -> Iterator[Any]:
        """The first rows of a put that was begun, in batches.

        Raises:
            NoSuchFlight: so many are not there.
        """
        import pyarrow as pa

        for begun in self._alive():
            if begun.name == name and begun.copy.rows >= rows and begun.schema.equals(schema):
                break
        else:
            raise _gone(name, rows)
        try:
            with pa.memory_map(str(begun.copy.path)) as source:
                for batch in _whole(pa.ipc.open_stream(source)):
                    batch.validate(full=True)
                    yield batch.slice(0, rows)
                    rows -= min(rows, len(batch))
                    if not rows:
                        return
        except (pa.ArrowException, OSError):
            pass
        begun.copy.close()
        raise _gone(name, rows)

    def end(self, name: str) -> None:
        """Remove what was left of puts of this name."""
        with self._mutex:
            for begun in self._all:
                if begun.name == name and begun.copy.left:
                    begun.copy.close()

    def _alive(self) -> list[_Begun]:
        with self._mutex:
            old, longer = time.time() - LIFE, set[str]()
            left = [begun for begun in self._all if begun.copy.left]
            for begun in sorted(left, key=lambda begun: -begun.copy.rows):
                if begun.since < old or begun.name in longer:
                    begun.copy.close()
                longer.add(begun.name)
            for begun in [begun for begun in left if begun.copy.left][:-MOST]:
                begun.copy.close()
            self._all = [begun for begun in self._all if begun.copy.path]
            return list(self._all)

    def _drop_oldest(self) -> bool:
        """Remove one that is not being written; False if there is none."""
        with self._mutex:
            left = next((begun for begun in self._alive() if begun.copy.left), None)
            if left is not None:
                left.copy.close()
            return left is not None


def _gone(name: str, rows: int) -> NoSuchFlight:
    return NoSuchFlight(f"of {name} the first {rows} rows are not there any more: put it again")


def _whole(reader: Any) -> Iterator[Any]:
    """The batches of a stream up to the last whole one."""
    import pyarrow as pa

    with suppress(StopIteration, pa.ArrowException, OSError):
        while True:
            yield reader.read_next_batch()
