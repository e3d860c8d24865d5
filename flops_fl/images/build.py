"""Builds the images of a repository: for each platform a base, packages, and the code."""

from __future__ import annotations

import errno
import hashlib
import logging
import os
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from packaging.specifiers import SpecifierSet

from flops_fl.errors import RepositoryError, UsageError
from flops_fl.images.aside import aside
from flops_fl.images.base import SEEN, Base, fetch_base, seen
from flops_fl.images.bytecode import Bytecode
from flops_fl.images.config import Origin, code, config_of, model_code, skeleton
from flops_fl.images.layers import Layer, Pieces, write_layer
from flops_fl.images.layout import CONFIG, INDEX, MANIFEST, REF_NAME, Descriptor, Layout, index_of
from flops_fl.images.lock import FILE, Lock, Pin
from flops_fl.images.needs import Dropped, Needs, layers_of, needs_of, resolve
from flops_fl.images.reuse import earlier_layers, made_of, told
from flops_fl.images.served import Served
from flops_fl.images.site import Site, build_site
from flops_fl.images.uv import Target
from flops_fl.repo.runtime import against
from flops_fl.repo.source import CHANGES, Checkout, files_of, is_url, split_ref, told_by_git

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Image:
    """A built image for one platform."""

    role: str
    platform: str
    manifest: Descriptor
    base: Base
    layers: Sequence[Layer]


@dataclass(frozen=True, slots=True)
class Built:
    """All images of a repository."""

    folder: Path
    images: Sequence[Image]
    tags: dict[str, Descriptor]
    """What is pushed, by its name and tag without a registry."""
    dropped: Sequence[Dropped]
    dependencies: str
    """The name of the repository's dependency file."""
    locked: bool
    """Whether versions come from the repository's own lock."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What is to be built."""

    roles: Sequence[str]
    platforms: Sequence[str]
    base: str
    flavor: str
    cpu: bool
    """Take torch's wheels without CUDA."""


def build(repo: Checkout, wanted: Wanted, out: Path, served: Served | None = None) -> Built:
    """Build images into an OCI layout, which replaces `out` when everything is in it.

    Args:
        served: The model for the role ``inference``, which then is the only one.

    Raises:
        RepositoryError: what the repository lists cannot be installed.
        UsageError: there is no base image, no uv, no network, or no room; or `out` is something
            else.
    """
    out = out.absolute()  # uv has another working folder
    earlier = Layout(out)
    if out.exists() and not earlier.exists and (out.is_file() or any(out.iterdir())):
        raise UsageError(f"--out {out} is there and is no OCI layout: give another folder")
    try:
        return _build(repo, wanted, out, earlier, served)
    except OSError as error:
        if error.errno == errno.EFBIG:
            raise UsageError(
                f"a file beside {out} or in uv's cache would be larger than this process may "
                "write: raise that limit (ulimit -f)"
            ) from None
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise UsageError(
            f"no room is left beside {out} or in uv's cache: make room, or give folders on other "
            "disks (--out, UV_CACHE_DIR)"
        ) from None


def _build(
    repo: Checkout, wanted: Wanted, out: Path, earlier: Layout, served: Served | None
) -> Built:
    with aside(out) as (folder, work):
        layout = Layout.create(folder)
        bases = [fetch_base(wanted.base, each, layout, earlier) for each in wanted.platforms]
        python = bases[0].python
        if any(base.python != python for base in bases):
            said = ", ".join(f"{base.platform}: {base.python}" for base in bases)
            raise UsageError(f"--base {wanted.base} has several Pythons ({said}): give another")
        if why := _unfit(python, served):
            raise UsageError(f"--base {wanted.base} has Python {python}, but {why}: give another")
        needs = served.needs if served else needs_of(repo.path, python)
        lock, dropped, locked = _locked(repo.path, needs, bases, cpu=wanted.cpu)
        bytecode = Bytecode(python, work / "pyc")
        before = earlier_layers(earlier)
        building = _Building(
            repo, wanted, served, needs, lock, layout, earlier, before, bytecode, work
        )
        images = [image for base in bases for image in building.images(base)]
        tags = {}
        for role in wanted.roles:
            manifests = [image.manifest for image in images if image.role == role]
            single = len(manifests) == 1
            top = manifests[0] if single else layout.add(INDEX, index_of(manifests))
            tags[tag_of(repo, role, served.run if served else "")] = top
        layout.close([_named(top, name) for name, top in tags.items()])
    return Built(out, images, tags, (*needs.dropped, *dropped), needs.file, locked)


def _unfit(python: str, served: Served | None) -> str:
    """Why the images cannot have a version of Python; empty if they can."""
    if served:
        needed = served.python or python
        return "" if python == needed else f"the model was written with Python {needed}"
    return str(against("python", SpecifierSet(f"=={python}.*")) or "")


def tag_of(repo: Checkout, role: str, run: str = "") -> str:
    """An image's name and tag as FLOps gives them: ``user/repository/learner:commit``.

    Args:
        run: The id of the run that has trained the image's model: a commit may have many.
    """
    url = split_ref(repo.source)[0] if is_url(repo.source) else told_by_git(repo.path)[0]
    owner, _, name = re.sub(r"^\w+://[^/]*/|^[^/:]+:", "", url).rstrip("/").rpartition("/")
    names = (owner.rpartition("/")[2] or "local", name.removesuffix(".git") or repo.name, role)
    path = "/".join(re.sub(r"[^a-z0-9]+", "-", each.lower()).strip("-") or "x" for each in names)
    tag = (repo.commit or "uncommitted").replace(CHANGES, "-changes")
    return f"{path}:{tag}-{run}" if run else f"{path}:{tag}"


def _locked(
    folder: Path, needs: Needs, bases: Sequence[Base], *, cpu: bool
) -> tuple[Lock, tuple[Dropped, ...], bool]:
    """The versions of all packages: from the repository's lock, or else resolved now."""
    file, python = folder / FILE, bases[0].python
    if needs.serving or not file.is_file():
        targets = [Target(base.platform, python, base.uv_platform) for base in bases]
        why = "for the model" if needs.serving else f"since the repository has no {FILE}"
        log.info("choosing versions, %s", why)
        return *resolve(folder, needs, targets, cpu=cpu), False
    lock = Lock.read(file)
    lacking = [base.platform for base in bases if base.platform not in lock.pins]
    if lock.python != python:
        why = f"is for Python {lock.python}, and the base image has {python}"
    elif lacking:
        why = f"is not for {', '.join(lacking)}"
    elif lock.asked != needs.asked(python, cpu=cpu):
        why = f"is older than {needs.file}, or than this flops-fl"
    else:
        return lock, (), True
    platforms = ",".join(base.platform for base in bases)
    raise RepositoryError(
        f"{FILE} {why}: write it again with flops-fl deps REPO --write --python {python} "
        f"--platform {platforms}{' --cpu' if cpu else ''}",
        stage=FILE,
    )


@dataclass(frozen=True, slots=True)
class _Building:
    """What is common to the images of all platforms."""

    repo: Checkout
    wanted: Wanted
    served: Served | None
    needs: Needs
    lock: Lock
    layout: Layout
    cache: Layout
    earlier: Mapping[str, Layer]
    """The layers of an earlier layout, by what they were made of."""
    bytecode: Bytecode
    work: Path
    pieces: Pieces = field(default_factory=dict)
    """What the layers of several platforms have in common, compressed once."""

    def images(self, base: Base) -> Iterator[Image]:
        """Build the images for the base's platform; they share their layers."""
        pins, wanted = self.lock.pins[base.platform], self.wanted
        parts = layers_of(pins, self.needs)
        if "aggregator" not in wanted.roles:
            del parts["aggregator"]
        layers = self._packages(base, parts)
        origin = self._origin(pins)
        for role in wanted.roles:
            path, title = self.repo.path, "model" if self.served else "code"
            own = model_code(self.served.folder) if self.served else None
            last = write_layer(title, own or code(role, path, files_of(path), origin), self.layout)
            used = [each for each in layers if each.title != "aggregator" or role == "aggregator"]
            manifest = _manifest(role, base, [*used, last], origin, self.layout)
            yield Image(role, base.platform, manifest, base, [*used, last])

    def _packages(self, base: Base, parts: Mapping[str, set[str]]) -> list[Layer]:
        """The layers of packages: from the earlier layout if they are in it."""
        pins = self.lock.pins[base.platform]
        chosen = {
            title: [pin for pin in pins if pin.name in names] for title, names in parts.items()
        }
        keys = {title: made_of(title, chosen[title], base) for title in parts}
        before = {title: self.earlier[key] for title, key in keys.items() if key in self.earlier}
        layers = {t: layer for t, layer in before.items() if self.cache.holds(layer.blob.digest)}
        for layer in layers.values():
            log.info("taking the layer %s for %s from before", layer.title, base.platform)
            self.layout.take(layer.blob.digest, self.cache)
        missing = [title for title in parts if title not in layers]
        if missing:
            own = self.work / base.platform.replace("/", "-")
            own.mkdir()
            site = self._site(base, [pin for title in missing for pin in chosen[title]], own)
            for title in missing:
                log.info("writing the layer %s for %s", title, base.platform)
                frame = skeleton(base) if title == "runtime" else ()
                members = [*frame, *site.members(parts[title])]
                layer = write_layer(title, members, self.layout, self.pieces)
                there = sorted(parts[title] & site.packages.keys())
                sizes = {name: site.size(name) for name in there}
                layers[title] = replace(layer, packages=sizes, made_of=keys[title])
            shutil.rmtree(own)
        return [layers[title] for title in parts]

    def _site(self, base: Base, pins: Sequence[Pin], folder: Path) -> Site:
        """The packages with their bytecode."""
        target = Target(base.platform, base.python, base.uv_platform)
        site = build_site(self.lock, pins, target, self.repo.path, folder, cpu=self.wanted.cpu)
        log.info("compiling the packages for %s", base.platform)
        self.bytecode.make(site.members(site.packages))
        for members in site.packages.values():
            members.extend(self.bytecode.of(members))
        return site

    def _origin(self, pins: Sequence[Pin]) -> Origin:
        url, time = told_by_git(self.repo.path)
        return Origin(
            title=tag_of(self.repo, "").partition(":")[0].rpartition("/")[0],
            source=self.repo.source if is_url(self.repo.source) else url,
            commit=self.repo.commit or "",
            time=int(os.environ.get("SOURCE_DATE_EPOCH") or time),
            lock=hashlib.sha256("".join(pin.lines() for pin in pins).encode()).hexdigest(),
            flavor=self.wanted.flavor,
            run=self.served.run if self.served else "",
        )


def _manifest(
    role: str, base: Base, layers: Sequence[Layer], origin: Origin, layout: Layout
) -> Descriptor:
    config = layout.add(CONFIG, config_of(role, base, layers, origin))
    blobs = [*base.layers, *map(told, layers)]
    document = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": config.as_json(),
        "layers": [blob.as_json() for blob in blobs],
        "annotations": {SEEN: seen(base)},
    }
    made = layout.add(MANIFEST, document)
    return Descriptor(MANIFEST, made.digest, made.size, base.platform)


def _named(image: Descriptor, name: str) -> Descriptor:
    return replace(image, annotations={REF_NAME: name})
