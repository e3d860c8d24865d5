"""Layers: tar files, compressed, whose bytes depend on their content alone."""

from __future__ import annotations

import hashlib
import os
import struct
import tarfile
import zlib
from collections import deque
from collections.abc import Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path, PurePosixPath
from typing import IO, cast

from flops_fl.images.layout import LAYER, Blob, Descriptor, Layout

PIECE = 1 << 20
"""Bytes that one thread compresses at a time."""
LEVEL = 4
"""zlib's: level 1 is twice as fast and 9 % larger, level 6 half as fast and 3 % smaller."""
_HEAD = b"\x1f\x8b\x08\0\0\0\0\0\0\xff"  # gzip without a name and without a time


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """A file of a layer; a folder if it has neither content nor target."""

    path: str
    """From the image's root, without a slash first."""
    content: Path | bytes | None = None
    target: str = ""
    """Where a symbolic link leads."""
    mode: int = 0o644


@dataclass(frozen=True, slots=True)
class Layer:
    """A layer in a layout."""

    title: str
    blob: Descriptor
    diff_id: str
    """The digest of the tar file before it was compressed."""
    unpacked: int
    """Bytes of its files."""
    packages: Mapping[str, int] = field(default_factory=dict)
    """The packages in it, with their bytes."""
    made_of: str = ""
    """A digest of all that decides on its content; empty where that is the content itself."""


def write_layer(title: str, members: Iterable[Member], layout: Layout) -> Layer:
    """Write a layer into a layout: sorted, owned by root, all times 0.

    Raises:
        OSError: there is no room, or a file cannot be read.
    """
    found = {member.path: member for member in members}
    for path in [*found]:
        for folder in PurePosixPath(path).parents:
            if folder.name:
                found.setdefault(str(folder), Member(path=str(folder), mode=0o755))
    unpacked = 0
    with layout.new_blob() as blob, _Gzip(blob) as packed:
        stream = cast(IO[bytes], packed)  # tarfile asks a stream for `write` alone
        with tarfile.open(fileobj=stream, mode="w|", format=tarfile.PAX_FORMAT) as tar:
            for path in sorted(found):
                unpacked += _add(tar, found[path])
        diff_id = packed.finish()
    return Layer(title, blob.descriptor(LAYER), diff_id, unpacked)


def _add(tar: tarfile.TarFile, member: Member) -> int:
    info = tarfile.TarInfo(member.path)
    info.mode = member.mode  # root's, and of 1970: TarInfo's defaults
    if member.target:
        info.type, info.linkname = tarfile.SYMTYPE, member.target
        tar.addfile(info)
    elif member.content is None:
        info.type = tarfile.DIRTYPE
        tar.addfile(info)
    elif isinstance(member.content, bytes):
        info.size = len(member.content)
        tar.addfile(info, BytesIO(member.content))
    else:
        with member.content.open("rb") as file:
            info.size = os.fstat(file.fileno()).st_size
            tar.addfile(info, file)
    return info.size


class _Gzip:
    """One gzip stream that all cores compress: each piece ends at a byte, so pieces can be joined.

    Single pieces do not know what came before them, which costs less than a hundredth.
    """

    def __init__(self, out: Blob) -> None:
        self._out = out
        self._threads = max(1, len(os.sched_getaffinity(0)))
        self._pool = ThreadPoolExecutor(self._threads)
        self._waiting: deque[Future[bytes]] = deque()
        self._buffer = bytearray()
        self._hash, self._crc, self._size = hashlib.sha256(), 0, 0
        out.write(_HEAD)

    def __enter__(self) -> _Gzip:
        return self

    def __exit__(self, *error: object) -> None:
        self._pool.shutdown(cancel_futures=True)

    def write(self, content: bytes) -> int:
        """Take uncompressed bytes."""
        self._hash.update(content)
        self._crc = zlib.crc32(content, self._crc)
        self._size += len(content)
        self._buffer += content
        while len(self._buffer) >= PIECE:
            self._send(bytes(self._buffer[:PIECE]), zlib.Z_SYNC_FLUSH)
            del self._buffer[:PIECE]
        return len(content)

    def finish(self) -> str:
        """Write what is left; returns the digest of the uncompressed bytes."""
        self._send(bytes(self._buffer), zlib.Z_FINISH)
        while self._waiting:
            self._out.write(self._waiting.popleft().result())
        self._out.write(struct.pack("<II", self._crc, self._size & 0xFFFFFFFF))
        return f"sha256:{self._hash.hexdigest()}"

    def _send(self, piece: bytes, flush: int) -> None:
        self._waiting.append(self._pool.submit(_deflate, piece, flush))
        while len(self._waiting) > 2 * self._threads:
            self._out.write(self._waiting.popleft().result())


def _deflate(piece: bytes, flush: int) -> bytes:
    packer = zlib.compressobj(LEVEL, zlib.DEFLATED, -zlib.MAX_WBITS)
    return packer.compress(piece) + packer.flush(flush)
