"""The site-packages of an image: installed for its platform, without tests, by package."""

from __future__ import annotations

import csv
import logging
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from importlib.metadata import distribution
from importlib.util import find_spec
from io import StringIO
from pathlib import Path

from packaging.utils import canonicalize_name

from flops_fl import __version__
from flops_fl.images.layers import Member
from flops_fl.images.lock import Lock, Pin
from flops_fl.images.uv import Target, install
from flops_fl.repo.runtime import RUNTIME
from flops_fl.text import counted

log = logging.getLogger(__name__)

LEFT_OUT = frozenset({"uv"})
"""Packages that no image needs: uv's binary has 37 MB, and Flower calls it in commands alone."""
OURS = ("flops_fl", "learner", "aggregator")
_PROGRAMS = re.compile(r"(bin|include|share/man)/")
"""What uv puts beside the packages; the programs name the Python of this machine."""
_NOTES = re.compile(r"[^/]+\.dist-info/(direct_url|uv_cache)\.json")
_TESTS = re.compile(r"(.*/)?tests/")
_USES_TESTS = re.compile(rb"^[ \t]*(from|import)[ \t]+[\w.]*\btests\b", re.MULTILINE)


@dataclass(slots=True)
class Site:
    """The files of an environment, by package."""

    path: str
    """Where it is in the image."""
    packages: dict[str, list[Member]] = field(default_factory=dict)

    def members(self, names: Iterable[str]) -> list[Member]:
        """The files of some packages."""
        return [member for name in sorted(names) for member in self.packages.get(name, ())]

    def size(self, name: str) -> int:
        """Bytes of a package's files."""
        return sum(size_of(member) for member in self.packages.get(name, ()))


def size_of(member: Member) -> int:
    """Bytes of a file."""
    content = member.content
    return content.stat().st_size if isinstance(content, Path) else len(content or b"")


def build_site(
    lock: Lock, pins: Sequence[Pin], target: Target, repo: Path, work: Path, *, cpu: bool
) -> Site:
    """Install packages for a platform, and flops-fl itself beside them.

    Args:
        pins: Those of the lock that are wanted.
        repo: Where relative paths of wheels start.
        work: An empty folder; the site's files stay in it.

    Raises:
        UsageError: uv is missing, or cannot install a package.
    """
    wanted = [pin for pin in pins if pin.name not in LEFT_OUT]
    requirements, folder = work / "requirements.txt", work / "site"
    requirements.write_text("\n".join([*lock.options, *(pin.lines() for pin in wanted)]))
    log.info("installing %s for %s", counted(len(wanted), "package"), target.platform)
    install(requirements, target, repo, folder, cpu=cpu)
    site = Site(site_path(target.python))
    for info in sorted(folder.glob("*.dist-info")):
        name = canonicalize_name(info.name.partition("-")[0])
        site.packages[name] = list(_files(folder, info, site.path))
    site.packages[RUNTIME] = list(own_files(site.path))
    return site


def site_path(python: str) -> str:
    """Where the packages are in an image."""
    return f"app/env/lib/python{python}/site-packages"


def own_files(path: str) -> Iterator[Member]:
    """The files of flops-fl as it runs here, from a clone or installed, with its metadata."""
    for name in OURS:
        spec = find_spec(name)
        assert spec is not None
        assert spec.submodule_search_locations is not None
        folder = Path(spec.submodule_search_locations[0])
        for file in sorted(folder.rglob("*")):
            inside = file.relative_to(folder.parent)
            if file.is_file() and "__pycache__" not in inside.parts:
                yield Member(path=f"{path}/{inside}", content=file)
    ours = distribution(RUNTIME)
    texts = {name: ours.read_text(name) for name in ("entry_points.txt", "top_level.txt")}
    texts["METADATA"] = ours.read_text("METADATA") or ours.read_text("PKG-INFO")
    for name, text in texts.items():
        info = f"{path}/flops_fl-{__version__}.dist-info"
        yield Member(path=f"{info}/{name}", content=(text or "").encode())


def _files(folder: Path, info: Path, path: str) -> Iterator[Member]:
    """The files of one package, and its record of them, without those that are left out."""
    record = info / "RECORD"
    rows = [row for row in csv.reader(StringIO(record.read_text("utf-8"))) if row]
    rows = [row for row in rows if _stays(row[0]) and (folder / row[0]).is_file()]
    tests = {row[0] for row in rows if _TESTS.match(row[0])}
    code = [folder / row[0] for row in rows if row[0].endswith(".py") and row[0] not in tests]
    if tests and any(_USES_TESTS.search(file.read_bytes()) for file in code):
        tests = set()
    kept = StringIO()
    writer = csv.writer(kept, lineterminator="\n")
    for row in sorted(rows):
        if row[0] in tests:
            continue
        writer.writerow(row)
        if row[0] != f"{info.name}/RECORD":
            file = folder / row[0]
            mode = 0o755 if file.stat().st_mode & 0o100 else 0o644
            yield Member(path=f"{path}/{row[0]}", content=file, mode=mode)
    yield Member(path=f"{path}/{info.name}/RECORD", content=kept.getvalue().encode())


def _stays(name: str) -> bool:
    return not (
        name.startswith(("/", ".."))
        or "__pycache__/" in name
        or _PROGRAMS.match(name)
        or _NOTES.fullmatch(name)
    )
