"""Exact versions of all packages of both images, with hashes: resolved, written and read again."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from packaging.markers import Marker
from packaging.utils import canonicalize_name

from flops_fl.errors import RepositoryError
from flops_fl.images.base import MACHINES

FILE = "requirements.lock"
_HEAD = "# flops-fl deps wrote this file; flops-fl image takes its packages from it.\n"
_LINE = re.compile(
    r"^(?P<spec>[^\s#\\-][^\\\n;]*?)[ \\]*(?:;(?P<marker>[^\\\n]*?)[ \\]*)?$", re.MULTILINE
)


@dataclass(frozen=True, slots=True)
class Pin:
    """A package in one version."""

    name: str
    spec: str
    """As pip reads it, such as ``numpy==2.4.6``."""
    hashes: tuple[str, ...]
    via: tuple[str, ...]
    """The packages because of which it is there."""

    @property
    def version(self) -> str:
        """Its version; empty for a file or a URL."""
        return self.spec.partition("==")[2]

    def lines(self, marker: str = "") -> str:
        """Its lines in a requirements file."""
        head = f"{self.spec} ; {marker}" if marker else self.spec
        hashes = [f"    --hash={each}" for each in self.hashes]
        text = " \\\n".join([head, *hashes])
        return f"{text}\n    # via {', '.join(self.via)}\n" if self.via else f"{text}\n"


@dataclass(frozen=True, slots=True)
class Lock:
    """What is locked, and for which question."""

    asked: str
    """A digest of all that was asked for: a lock of another question is not used."""
    python: str
    options: tuple[str, ...]
    """Lines for pip about where packages are."""
    pins: Mapping[str, Sequence[Pin]]
    """By platform."""

    def text(self) -> str:
        """The file: what is equal on all platforms once, all else with the machine's name."""
        parts = [_HEAD, f"# asked: {self.asked}\n# python: {self.python}\n"]
        parts += [f"# platforms: {', '.join(self.pins)}\n", *(f"{each}\n" for each in self.options)]
        rows = sorted(
            ((pin.name, platform, pin) for platform, pins in self.pins.items() for pin in pins),
            key=lambda row: row[:2],
        )
        everywhere = [pin for _, _, pin in rows]
        for _, platform, pin in rows:
            marker = f"platform_machine == '{MACHINES[platform]}'"
            if everywhere.count(pin) < len(self.pins):
                parts.append(pin.lines(marker))
            elif platform == next(iter(self.pins)):
                parts.append(pin.lines())
        return "".join(parts)

    @classmethod
    def read(cls, file: Path) -> Lock:
        """From a file.

        Raises:
            RepositoryError: it is no lock that `text` has made.
        """
        text = file.read_text("utf-8", "replace")
        said = dict(re.findall(r"^# (asked|python|platforms): (.*)$", text, re.M))
        if len(said) < 3:
            raise RepositoryError(
                f"{file.name} is not written by flops-fl deps: write it with --write, or take it "
                "out of the repository",
                stage=file.name,
            )
        options = tuple(line for line in text.splitlines() if line.startswith("-"))
        platforms = said["platforms"].split(", ")
        read = list(parse_pins(text))
        pins = {
            platform: [
                pin
                for pin, marker in read
                if not marker
                or Marker(marker).evaluate({"platform_machine": MACHINES.get(platform, "")})
            ]
            for platform in platforms
        }
        return cls(said["asked"], said["python"], options, pins)


def parse_pins(text: str) -> Iterator[tuple[Pin, str]]:
    """The packages in a requirements file as uv and `Lock.text` write them, with their markers."""
    starts = list(_LINE.finditer(text))
    for found, following in zip(starts, [*starts[1:], None], strict=True):
        part = text[found.start() : following.start() if following else None]
        via = re.findall(r"^    # via (.*)$", part, re.M)
        hashes = tuple(sorted(re.findall(r"--hash=(sha256:\w+)", part)))
        spec = found["spec"].strip()
        word = PurePosixPath(spec).name.partition("-")[0] if spec[0] in "./" else spec
        name = canonicalize_name(re.split(r"[ =@]", word, maxsplit=1)[0])
        parents = tuple(sorted(each.strip() for line in via for each in line.split(",")))
        yield Pin(name, spec, hashes, parents), (found["marker"] or "").strip()


def needed_by(roots: Iterable[str], pins: Sequence[Pin]) -> set[str]:
    """The names of packages that some packages need, themselves included."""
    there = {pin.name for pin in pins}
    found: set[str] = set()
    pending: list[str] = [canonicalize_name(root) for root in roots]
    while pending:
        name = pending.pop()
        if name in there and name not in found:
            found.add(name)
            pending += [pin.name for pin in pins if name in pin.via]
    return found
