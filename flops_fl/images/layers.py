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
from pathlib import Path, PurePosixPath
from typing import TypeAlias

from flops_fl.images.layout import LAYER, Blob, Descriptor, Layout

PIECE = 1 << 20
"""Bytes that one thread compresses at a time, or a little more."""
GROUP = 64
"""Files that are in one piece on average. A file's path alone decides whether a piece ends with it,
so that two layers have equal pieces again after a file that differs."""
LEVEL = 4
"""zlib's: level 1 is twice as fast and 9 % larger, level 6 half as fast and 3 % smaller."""
_HEAD = b"\x1f\x8b\x08\0\0\0\0\0\0\xff"  # gzip without a name and without a time


Pieces: TypeAlias = dict[bytes, Future[bytes]]
"""Compressed pieces, by the digest of what they hold."""


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


def write_layer(
    title: str, members: Iterable[Member], layout: Layout, known: Pieces | None = None
) -> Layer:
    """Write a layer into a layout: in a fixed order, owned by root, all times 0.

    Args:
        known: Pieces of other layers, compressed already; those of this one are added. Give it
            where layers have files in common, such as those of two platforms.

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
        for of_machine, path in sorted((_of_machine(each), path) for path, each in found.items()):
            packed.known = None if of_machine else known
            unpacked += _add(packed, found[path])
            if zlib.crc32(path.encode()) % GROUP == 0:
                packed.cut()
        packed.write(bytes(2 * tarfile.BLOCKSIZE))  # how a tar file ends
        diff_id = packed.finish()
    return Layer(title, blob.descriptor(LAYER), diff_id, unpacked)


def _of_machine(member: Member) -> bool:
    """Whether a file differs from processor to processor: shared objects, and what lists them."""
    name = PurePosixPath(member.path).name
    is_listing = ".dist-info/" in member.path
    return member.content is not None and (is_listing or name.endswith(".so") or ".so." in name)


def _add(tar: _Gzip, member: Member) -> int:
    """Append a member: its header and its content, in large pieces, as `tarfile` does not."""
    info, content = tarfile.TarInfo(member.path), member.content
    info.mode = member.mode  # root's, and of 1970: TarInfo's defaults
    if isinstance(content, Path):
        with content.open("rb") as file:
            info.size = os.fstat(file.fileno()).st_size
            tar.write(_header(info))
            left = info.size
            while left and (piece := file.read(min(left, PIECE))):
                tar.write(piece)
                left -= len(piece)
        if left:
            raise OSError(f"{content} became shorter while it was read")
    else:
        if member.target:
            info.type, info.linkname = tarfile.SYMTYPE, member.target
        elif content is None:
            info.type = tarfile.DIRTYPE
        info.size = len(content or b"")
        tar.write(_header(info) + (content or b""))
    tar.write(bytes(-info.size % tarfile.BLOCKSIZE))
    return info.size


def _header(info: tarfile.TarInfo) -> bytes:
    return info.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")


class _Gzip:
    """One gzip stream that all cores compress: each piece ends at a byte, so pieces can be joined.

    Single pieces do not know what came before them, which costs less than a hundredth.
    """

    def __init__(self, out: Blob) -> None:
        self._out = out
        self.known: Pieces | None = None
        """Where pieces are looked up that other streams may have, too."""
        self._threads = max(1, len(os.sched_getaffinity(0)))
        self._pool = ThreadPoolExecutor(self._threads)
        self._waiting: deque[Future[bytes]] = deque()
        self._parts: list[bytes] = []
        self._held = 0
        self._hash, self._crc, self._size = hashlib.sha256(), 0, 0
        out.write(_HEAD)

    def __enter__(self) -> _Gzip:
        return self

    def __exit__(self, *error: object) -> None:
        self._pool.shutdown(cancel_futures=True)

    def write(self, content: bytes) -> None:
        """Take uncompressed bytes."""
        self._parts.append(content)
        self._held += len(content)
        if self._held >= PIECE:
            self.cut()

    def cut(self) -> None:
        """End a piece here."""
        self._send(zlib.Z_SYNC_FLUSH)

    def finish(self) -> str:
        """Write what is left; returns the digest of the uncompressed bytes."""
        self._send(zlib.Z_FINISH)
        while self._waiting:
            self._out.write(self._waiting.popleft().result())
        self._out.write(struct.pack("<II", self._crc, self._size & 0xFFFFFFFF))
        return f"sha256:{self._hash.hexdigest()}"

    def _send(self, flush: int) -> None:
        piece = b"".join(self._parts)
        self._parts, self._held = [], 0
        self._waiting.append(self._compressed(piece, flush))
        self._hash.update(piece)
        self._crc = zlib.crc32(piece, self._crc)
        self._size += len(piece)
        while len(self._waiting) > 2 * self._threads:
            self._out.write(self._waiting.popleft().result())

    def _compressed(self, piece: bytes, flush: int) -> Future[bytes]:
        if self.known is None or flush == zlib.Z_FINISH:
            return self._pool.submit(_deflate, piece, flush)
        key = hashlib.sha256(piece).digest()
        if key not in self.known:
            self.known[key] = self._pool.submit(_deflate, piece, flush)
        return self.known[key]


def _deflate(piece: bytes, flush: int) -> bytes:
    packer = zlib.compressobj(LEVEL, zlib.DEFLATED, -zlib.MAX_WBITS)
    return packer.compress(piece) + packer.flush(flush)
