"""Pushes built images to a registry."""

from __future__ import annotations

import logging

from flops_fl.errors import UsageError
from flops_fl.images.build import Built
from flops_fl.images.layout import Descriptor, Layout
from flops_fl.images.registry import Reference, Registry

log = logging.getLogger(__name__)


def push(built: Built, registry: str) -> list[str]:
    """Push all images to a registry; what it has already is not sent.

    Returns:
        The names under which they are there.

    Raises:
        UsageError: the registry cannot be reached, or refuses.
    """
    layout = Layout(built.folder)
    pushed: list[str] = []
    other = ""
    for name, top in built.tags.items():
        reference, to = _named(registry, name)
        full = f"{registry.rstrip('/')}/{name}"
        inner = layout.manifests(top)
        for manifest in inner:
            for blob in _blobs(manifest, layout):
                if to.push(blob, layout, other):
                    log.info("pushed %s (%.0f MB)", blob.digest, blob.size / 1e6)
        for manifest in inner:
            if manifest is not top:
                to.push_manifest(manifest, layout, manifest.digest)
        to.push_manifest(top, layout, reference.tag)
        log.info("pushed %s", full)
        pushed.append(f"{full}@{top.digest}")
        other = reference.name
    return pushed


def require_registry(registry: str) -> None:
    """Check that there is a registry to push to, before anything is built.

    Raises:
        UsageError: it is no name of one, or nobody answers.
    """
    _named(registry, "owner/repository/role:commit")[1].require()


def _named(registry: str, name: str) -> tuple[Reference, Registry]:
    try:
        reference = Reference.parse(f"{registry.rstrip('/')}/{name}")
    except UsageError:
        raise UsageError(
            f"--push {registry}: expected a registry such as registry.example.org or "
            "localhost:5000/team, without a tag"
        ) from None
    return reference, Registry(reference, "leave --push out")


def _blobs(manifest: Descriptor, layout: Layout) -> list[Descriptor]:
    said = layout.document(manifest.digest)
    return [Descriptor.read(each) for each in (*said["layers"], said["config"])]
