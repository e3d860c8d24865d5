"""An OCI image layout: a folder of blobs that are named by their digest, and an index of images.

The OCI image specification (opencontainers/image-spec, version 1.0) describes it. `skopeo` copies
such a folder to a registry.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
CONFIG = "application/vnd.oci.image.config.v1+json"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
REF_NAME = "org.opencontainers.image.ref.name"

MARK = "oci-layout"
"""The file by which a layout is known."""


@dataclass(frozen=True, slots=True)
class Descriptor:
    """What refers to a blob."""

    media_type: str
    digest: str
    size: int
    platform: str = ""
    """Such as ``linux/arm64``; of a manifest only."""
    annotations: Mapping[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The image's name and tag, in a layout's own index."""
        return self.annotations.get(REF_NAME, "")

    def as_json(self) -> dict[str, Any]:
        """The document that stands for it in manifests and indices."""
        said: dict[str, Any] = {
            "mediaType": self.media_type,
            "digest": self.digest,
            "size": self.size,
        }
        if self.platform:
            system, architecture = self.platform.split("/")[:2]
            said["platform"] = {"architecture": architecture, "os": system}
        if self.annotations:
            said["annotations"] = dict(self.annotations)
        return said

    @classmethod
    def read(cls, said: Mapping[str, Any]) -> Descriptor:
        """From such a document.

        Raises:
            KeyError: it is none.
        """
        where = said.get("platform") or {}
        platform = f"{where['os']}/{where['architecture']}" if "architecture" in where else ""
        annotations = said.get("annotations") or {}
        return cls(said["mediaType"], said["digest"], int(said["size"]), platform, annotations)


class Blob:
    """A blob that is being written; its digest follows from what was written."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._hash, self._size = hashlib.sha256(), 0

    def write(self, content: bytes) -> int:
        """Append to it."""
        self._hash.update(content)
        self._size += len(content)
        return self._file.write(content)

    def descriptor(self, media_type: str) -> Descriptor:
        """What refers to it."""
        return Descriptor(media_type, f"sha256:{self._hash.hexdigest()}", self._size)


class Layout:
    """A layout in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @classmethod
    def create(cls, folder: Path) -> Layout:
        """An empty one, in a folder that exists."""
        (folder / "blobs" / "sha256").mkdir(parents=True)
        (folder / MARK).write_text('{"imageLayoutVersion":"1.0.0"}')
        return cls(folder)

    @property
    def exists(self) -> bool:
        """Whether the folder is one."""
        return (self.folder / MARK).is_file() and (self.folder / "index.json").is_file()

    def path(self, digest: str) -> Path:
        """The file of a blob."""
        kind, _, value = digest.partition(":")
        return self.folder / "blobs" / kind / value

    def holds(self, digest: str) -> bool:
        """Whether a blob is there, and undamaged."""
        try:
            with self.path(digest).open("rb") as file:
                return f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}" == digest
        except OSError:
            return False

    @contextmanager
    def new_blob(self) -> Iterator[Blob]:
        """A blob to write, which has its name when the context ends."""
        aside = self.folder / "blobs" / "part"
        with aside.open("wb") as file:
            blob = Blob(file)
            yield blob
        aside.replace(self.path(blob.descriptor("").digest))

    def add(self, media_type: str, document: Mapping[str, Any]) -> Descriptor:
        """Add a JSON document."""
        with self.new_blob() as blob:
            blob.write(canonical(document))
        return blob.descriptor(media_type)

    def take(self, digest: str, other: Layout) -> None:
        """Take a blob over from another layout, without a copy where both are on one disk."""
        if self.path(digest).exists():
            return
        try:
            os.link(other.path(digest), self.path(digest))
        except OSError:
            self.path(digest).write_bytes(other.path(digest).read_bytes())

    def document(self, digest: str) -> dict[str, Any]:
        """A JSON document by its digest.

        Raises:
            OSError, ValueError: it is not there, or is no such document.
        """
        found = json.loads(self.path(digest).read_bytes())
        if not isinstance(found, dict):
            raise ValueError(f"{digest} is no document")  # noqa: TRY004
        return found

    def index(self) -> list[Descriptor]:
        """The images in it.

        Raises:
            OSError, ValueError, KeyError: the index cannot be read.
        """
        said = json.loads((self.folder / "index.json").read_bytes())
        return [Descriptor.read(each) for each in said["manifests"]]

    def manifests(self, image: Descriptor) -> list[Descriptor]:
        """The manifests of an image: one for each platform, or itself.

        Raises:
            OSError, ValueError, KeyError: its index cannot be read.
        """
        if image.media_type != INDEX:
            return [image]
        return [Descriptor.read(each) for each in self.document(image.digest)["manifests"]]

    def close(self, images: Sequence[Descriptor]) -> None:
        """Write the index: the images that are in it."""
        document = index_of(images)
        (self.folder / "index.json").write_bytes(canonical(document))


def index_of(manifests: Sequence[Descriptor]) -> dict[str, Any]:
    """An index of manifests, or of the images of a layout."""
    return {
        "schemaVersion": 2,
        "mediaType": INDEX,
        "manifests": [each.as_json() for each in manifests],
    }


def canonical(document: Mapping[str, Any]) -> bytes:
    """The one form of a document, so that equal ones have equal digests."""
    return json.dumps(document, sort_keys=True, separators=(",", ":")).encode()
