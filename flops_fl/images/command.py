"""``flops-fl image``: builds images, pushes them, and says what is in them."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

from rich.console import Console
from rich.table import Table

from flops_fl.images.build import Built, Image, Wanted, build
from flops_fl.images.config import INFERENCE
from flops_fl.images.layout import Layout
from flops_fl.images.push import push, require_registry
from flops_fl.images.served import served_model
from flops_fl.options.images import ImageOptions
from flops_fl.process.answer import Answer
from flops_fl.process.signals import raise_on_signals
from flops_fl.repo.source import checkout

LARGEST = 12
"""How many packages the table names; --json has all."""


def build_images(options: ImageOptions, answer: Answer) -> None:
    """Build the images of a repository, or of a model, and push them if that is wanted.

    Raises:
        FlopsError: see `build`, `served_model`, `require_registry` and `push`.
    """
    raise_on_signals()
    if options.push:
        require_registry(options.push)
    wanted = Wanted(
        roles=options.roles,
        platforms=options.platform,
        base=options.base,
        flavor=options.model_flavor or "",
        cpu=options.cpu,
    )
    if options.role == INFERENCE:
        with served_model(options) as (repo, served):
            built = build(repo, wanted, options.out, served)
    else:
        with checkout(options.repo) as repo:
            built = build(repo, wanted, options.out)
    pushed = push(built, options.push) if options.push else []
    if answer.as_json:
        answer.give(document(built, pushed))
        return
    console = Console(stderr=True)
    for each in built.dropped:
        console.print(each.sentence(built.dependencies), highlight=False, soft_wrap=True)
    for table in tables(built):
        console.print(table)
    sys.stdout.writelines(f"{line}\n" for line in pushed or _names(built))


def tables(built: Built) -> Iterator[Table]:
    """What is in the images: layers, and the largest packages."""
    layers = Table("image", "layer")
    for name in ("compressed", "unpacked"):
        layers.add_column(name, justify="right")
    for image in built.images:
        rows = [("base", sum(blob.size for blob in image.base.layers), 0)]
        rows += [(layer.title, layer.blob.size, layer.unpacked) for layer in image.layers]
        for number, (title, packed, unpacked) in enumerate(rows):
            name = f"{image.role} {image.platform}" if number == 0 else ""
            layers.add_row(name, title, _size(packed), _size(unpacked) if unpacked else "")
        total = sum(packed for _, packed, _ in rows)
        layers.add_row("", "all", _size(total), "", end_section=True)
    yield layers
    sizes = {name: size for image in built.images for name, size in _sizes(image).items()}
    largest = sorted(sizes, key=lambda name: -sizes[name])
    packages = Table(f"the largest of {len(sizes)} packages")
    packages.add_column("unpacked", justify="right")
    for name in largest[:LARGEST]:
        packages.add_row(name, _size(sizes[name]))
    yield packages


def document(built: Built, pushed: list[str]) -> dict[str, Any]:
    """The same for a program."""
    return {
        "status": "completed",
        "layout": str(built.folder),
        "locked": built.locked,
        "images": {name: top.digest for name, top in built.tags.items()},
        "pushed": pushed,
        "manifests": [
            {
                "role": image.role,
                "platform": image.platform,
                "digest": image.manifest.digest,
                "base": {"name": image.base.name, "digest": image.base.digest},
                "layers": [
                    {
                        "title": layer.title,
                        "digest": layer.blob.digest,
                        "bytes": layer.blob.size,
                        "unpacked": layer.unpacked,
                        "packages": dict(layer.packages),
                    }
                    for layer in image.layers
                ],
            }
            for image in built.images
        ],
        "not_kept": [
            {"file": built.dependencies, "line": each.line, "text": each.text, "why": each.why}
            for each in built.dropped
        ],
    }


def _names(built: Built) -> list[str]:
    """How `skopeo` and others call the images in the layout."""
    return [f"oci:{Layout(built.folder).folder}:{name}" for name in built.tags]


def _sizes(image: Image) -> dict[str, int]:
    return {name: size for layer in image.layers for name, size in layer.packages.items()}


def _size(count: int) -> str:
    return f"{count / 1e6:,.1f} MB"
