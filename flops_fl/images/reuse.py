"""Layers of an earlier build: known by what they were made of, as manifests say."""

from __future__ import annotations

import hashlib
import json
import sys
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from flops_fl.images.base import Base
from flops_fl.images.layers import LEVEL, Layer
from flops_fl.images.layout import Descriptor, Layout
from flops_fl.images.lock import Pin
from flops_fl.images.site import own_files

TITLE = "flops-fl.layer"
MADE_OF = "flops-fl.made-of"
UNPACKED = "flops-fl.unpacked"
PACKAGES = "flops-fl.packages"


def made_of(title: str, pins: Sequence[Pin], base: Base) -> str:
    """A digest of all that decides on the content of a layer of packages.

    These are its packages by their hashes, the base's platform and Python, and whatever makes the
    layer: flops-fl itself, and the Python and zlib that run here.
    """
    words = [title, base.platform, base.uv_platform, base.python, base.folder, str(LEVEL)]
    words += [sys.version, zlib.ZLIB_RUNTIME_VERSION, _ours(), *(pin.lines() for pin in pins)]
    return hashlib.sha256("\n".join(words).encode()).hexdigest()


@lru_cache(maxsize=1)
def _ours() -> str:
    """A digest of flops-fl's own files."""
    found = hashlib.sha256()
    for member in own_files(""):
        content = member.content
        found.update(member.path.encode())
        found.update(content.read_bytes() if isinstance(content, Path) else content or b"")
    return found.hexdigest()


def told(layer: Layer) -> Descriptor:
    """A layer as manifests refer to it; one of packages says which, and what it was made of."""
    if not layer.made_of:
        return layer.blob
    notes = {
        TITLE: layer.title,
        MADE_OF: layer.made_of,
        UNPACKED: str(layer.unpacked),
        PACKAGES: json.dumps(dict(layer.packages)),
    }
    return replace(layer.blob, annotations=notes)


def earlier_layers(layout: Layout) -> Mapping[str, Layer]:
    """The layers of packages in a layout, by what they were made of; none if it cannot be read."""
    found: dict[str, Layer] = {}
    try:
        for image in layout.index() if layout.exists else ():
            for each in layout.manifests(image):
                found |= _of_manifest(layout, layout.document(each.digest))
    except (OSError, ValueError, KeyError, IndexError):
        return {}
    return found


def _of_manifest(layout: Layout, manifest: Mapping[str, Any]) -> dict[str, Layer]:
    diff_ids = layout.document(manifest["config"]["digest"])["rootfs"]["diff_ids"]
    found = {}
    for number, said in enumerate(manifest["layers"]):
        blob = Descriptor.read(said)
        notes = blob.annotations
        if MADE_OF not in notes:
            continue
        found[notes[MADE_OF]] = Layer(
            title=notes[TITLE],
            blob=replace(blob, annotations={}),
            diff_id=diff_ids[number],
            unpacked=int(notes[UNPACKED]),
            packages=json.loads(notes[PACKAGES]),
            made_of=notes[MADE_OF],
        )
    return found
