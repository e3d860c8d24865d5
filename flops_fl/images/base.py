"""The base image: where it is taken from, and which Python and C library it has."""

from __future__ import annotations

import json
import logging
import re
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flops_fl import __version__
from flops_fl.errors import UsageError
from flops_fl.images.layout import INDEX, MANIFEST, Descriptor, Layout
from flops_fl.images.registry import TYPES, Reference, Registry

log = logging.getLogger(__name__)

MACHINES = {"linux/amd64": "x86_64", "linux/arm64": "aarch64"}
"""uv's names of the platforms for which images can be built."""
MANYLINUX = (17, 28, *range(31, 41))
"""The minor versions of glibc 2 for which uv chooses wheels."""
SEEN = "flops-fl.base"
"""The annotation for `seen`."""
_PYTHON = re.compile(r"(?:\./)?((?:usr/local/|usr/|opt/[\w.-]+/)bin)/python3\.(\d+)")
_LIBC = re.compile(r"(?:.*/)?(?:libc\.so\.6|libc-2\.(\d+)\.so)")
_MUSL = re.compile(r"(?:.*/)?ld-musl-[\w]+\.so\.1")


@dataclass(frozen=True, slots=True)
class Base:
    """A base image for one platform; its blobs are in the layout that is being built."""

    name: str
    """As it is called at a registry or in its layout, wherever that is."""
    digest: str
    """Of its manifest."""
    platform: str
    config: Mapping[str, Any]
    layers: Sequence[Descriptor]
    folder: str
    """Where its Python is, such as ``/usr/local/bin``."""
    python: str
    """Python's version, such as ``3.12``."""
    uv_platform: str


def fetch_base(name: str, platform: str, layout: Layout, cache: Layout) -> Base:
    """Take a base image over into a layout: from another one, or from a registry.

    Args:
        name: A folder with an OCI layout, or an image's name at a registry.
        cache: A layout that may be there, and may have its layers and what was found in them.

    Raises:
        UsageError: there is no such image for the platform, or it has no Python.
    """
    source = Layout(Path(name))
    try:
        if source.exists:
            images = source.index()
            manifest = _chosen(images, platform, name, source)
            label = images[0].name
            said = source.document(manifest.digest)
            blobs = _blobs(said)
            for blob in blobs:
                layout.take(blob.digest, source)
                if not layout.holds(blob.digest):
                    raise UsageError(
                        f"--base {name} is damaged: {source.path(blob.digest)} has other bytes "
                        "than its name says, get the image again"
                    )
        elif Path(name).exists():
            raise UsageError(
                f"--base {name} is no OCI image layout: expected a folder with oci-layout and "
                "index.json, such as skopeo copy docker://python:3.12-slim oci:FOLDER makes"
            )
        else:
            label = name
            manifest, said = _from_registry(name, platform, layout, cache)
            blobs = _blobs(said)
        config, *layers = blobs
        content = layout.document(config.digest)
        found = _seen(manifest.digest, cache) or _looked_through(
            layers, layout, name, MACHINES[platform]
        )
    except (KeyError, ValueError, FileNotFoundError) as error:
        raise UsageError(f"--base {name} is a broken image ({error}): give another") from None
    return Base(label, manifest.digest, platform, content, layers, *found)


def require_base(name: str, platforms: Sequence[str]) -> None:
    """Check that there is a base image for some platforms, without its layers.

    Raises:
        UsageError: there is none, or its registry cannot be reached.
    """
    source = Layout(Path(name))
    if source.exists:
        for platform in platforms:
            _chosen(source.index(), platform, name, source)
    else:
        reference = Reference.parse(name)
        Registry(reference).manifest(reference.tag)


def seen(base: Base) -> str:
    """What was found in a base image: a manifest on top of it says so to the next build."""
    return json.dumps([__version__, base.digest, base.folder, base.python, base.uv_platform])


def _seen(digest: str, earlier: Layout) -> tuple[str, str, str] | None:
    """What an earlier build has found in a base image, if it is the same and so are we."""
    try:
        for image in earlier.index():
            for each in earlier.manifests(image):
                said = json.loads(earlier.document(each.digest)["annotations"][SEEN])
                if said[:2] == [__version__, digest]:
                    return said[2], said[3], said[4]
    except (OSError, ValueError, LookupError, TypeError):
        return None
    return None


def _chosen(
    images: Sequence[Descriptor], platform: str, name: str, layout: Layout | None = None
) -> Descriptor:
    """The manifest for a platform."""
    flat = [each for image in images for each in (layout.manifests(image) if layout else [image])]
    for image in flat:
        where = image.platform
        if not where and layout:
            config = layout.document(layout.document(image.digest)["config"]["digest"])
            where = f"{config.get('os')}/{config.get('architecture')}"
        if where == platform:
            return image
    there = ", ".join(sorted({image.platform for image in flat if image.platform})) or "others"
    raise UsageError(f"--base {name} has no image for {platform} (it has {there}): give another")


def _from_registry(
    name: str, platform: str, layout: Layout, cache: Layout
) -> tuple[Descriptor, dict[str, Any]]:
    reference = Reference.parse(name)
    registry = Registry(reference)
    log.info("pulling %s for %s", name, platform)
    kind, said, content = registry.manifest(reference.tag)
    if kind == INDEX:
        images = [Descriptor.read(each) for each in said["manifests"]]
        kind, said, content = registry.manifest(_chosen(images, platform, name).digest)
    with layout.new_blob() as written:
        written.write(content)
    for blob in _blobs(said):
        if cache.holds(blob.digest):
            layout.take(blob.digest, cache)
        registry.pull(blob, layout)
    return written.descriptor(MANIFEST), said


def _blobs(manifest: Mapping[str, Any]) -> list[Descriptor]:
    """A manifest's config and layers, with OCI's media types."""
    found = [Descriptor.read(each) for each in (manifest["config"], *manifest["layers"])]
    return [
        Descriptor(TYPES.get(each.media_type, each.media_type), each.digest, each.size)
        for each in found
    ]


def _looked_through(
    layers: Sequence[Descriptor], layout: Layout, name: str, machine: str
) -> tuple[str, str, str]:
    """The folder and version of its newest Python, and what uv calls its processor and libc."""
    pythons: dict[str, int] = {}
    glibc, musl = 0, False
    for layer in layers:
        try:
            with tarfile.open(layout.path(layer.digest), "r:*") as tar:
                for member in tar:
                    if found := _PYTHON.fullmatch(member.name):
                        pythons[f"/{found[1]}"] = int(found[2])
                    elif found := _LIBC.fullmatch(member.name):
                        glibc = max(glibc, int(found[1] or _glibc(tar, member)))
                    musl = musl or bool(_MUSL.fullmatch(member.name))
        except tarfile.TarError:
            raise UsageError(
                f"--base {name} has a layer that this Python cannot read ({layer.media_type}): "
                "give an image with gzip layers"
            ) from None
    if not pythons:
        raise UsageError(f"--base {name} has no Python: give one, such as python:3.12-slim")
    folder = "/usr/local/bin" if "/usr/local/bin" in pythons else sorted(pythons)[0]
    known = [each for each in MANYLINUX if each <= (glibc or MANYLINUX[1])]
    if not known and not musl:
        raise UsageError(
            f"--base {name} has glibc 2.{glibc}: give one with 2.{MANYLINUX[0]} or newer"
        )
    libc = "unknown-linux-musl" if musl and not glibc else f"manylinux_2_{known[-1]}"
    return folder, f"3.{pythons[folder]}", f"{machine}-{libc}"


def _glibc(tar: tarfile.TarFile, member: tarfile.TarInfo) -> int:
    file = tar.extractfile(member) if member.isreg() else None
    found = re.search(rb"GNU C Library [^\n]* version 2\.(\d+)", file.read()) if file else None
    return int(found[1]) if found else 0
