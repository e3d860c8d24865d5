"""Reads a repository's conda.yaml (or conda.yml): each package that it asks for, with its line."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import yaml
from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from flops_fl.errors import RepositoryError

NAMES = ("conda.yaml", "conda.yml")

PIP_NAMES = {
    "pytorch": "torch",
    "pytorch-cpu": "torch",
    "py-xgboost": "xgboost",
    "matplotlib-base": "matplotlib",
    "opencv": "opencv-python",
    "python-duckdb": "duckdb",
}
"""pip's names of packages that conda calls otherwise."""

NOT_FOR_PIP = {"cpuonly", "pytorch-cuda", "cudatoolkit", "cuda", "mkl", "libblas", "blas", "nomkl"}

EXPECTED = "expected a conda environment, such as 'dependencies: [python=3.11, numpy]'"


@dataclass(frozen=True, slots=True)
class Entry:
    """One package that a dependency file asks for."""

    text: str
    """As it is written, such as ``numpy=1.26``."""
    line: int
    by_conda: bool
    """Whether it stands in conda's own list, and not in pip's."""

    @property
    def pip(self) -> str:
        """The same in pip's words; empty for what pip does not install, such as Python itself."""
        return _from_conda(self.text) if self.by_conda else self.text

    @property
    def requirement(self) -> Requirement | None:
        """The same, read; None if pip cannot read it, or if it is a URL, a file or an option."""
        try:
            return Requirement(self.pip)
        except InvalidRequirement:
            return None

    @property
    def is_readable(self) -> bool:
        """Whether pip can read it, or has nothing to read."""
        return not self.pip or bool(self.requirement) or is_no_name(self.pip)

    @property
    def name(self) -> str:
        """The package's name, in PEP 503's normal form; conda's own where pip has none."""
        text = self.pip or self.text
        return "" if is_no_name(text) else canonicalize_name(_conda_name(text))


@dataclass(frozen=True, slots=True)
class Slip:
    """Something in a dependency file that can be read, but was hardly meant."""

    line: int
    what: str
    remedy: str


@dataclass(frozen=True, slots=True)
class Environment:
    """What a dependency file says."""

    file: Path
    entries: Sequence[Entry]
    slips: Sequence[Slip]
    name: str = ""
    channels: Sequence[str] = ()

    @property
    def python(self) -> Entry | None:
        """The entry that names versions of Python."""
        return next(
            (each for each in self.entries if each.by_conda and each.name == "python"), None
        )

    @property
    def packages(self) -> list[Entry]:
        """The entries that pip can install."""
        return [entry for entry in self.entries if entry.pip]


def read_environment(folder: Path) -> Environment | None:
    """The dependency file of a repository; None if it has none.

    Raises:
        RepositoryError: the file is not a conda environment.
    """
    file = next((folder / name for name in NAMES if (folder / name).is_file()), None)
    if file is None:
        return None
    content, root, slips = _parse(file)
    entries = tuple(_entries(file, content, root))
    slips += [*_repeated_keys(root), *_repeated(entries)]
    channels = content.get("channels")
    channels = [channels] if isinstance(channels, str) else channels
    return Environment(
        file,
        entries,
        tuple(slips),
        str(content.get("name") or ""),
        tuple(map(str, channels)) if isinstance(channels, list) else (),
    )


def is_no_name(requirement: str) -> bool:
    """Whether a line of pip's is a URL, a file or an option, and not a package's name."""
    return bool(re.match(r"-|\.|/|[\w+]+:", requirement))


def python_versions(entry: Entry) -> str:
    """The versions of Python that an entry asks for, in pip's words, such as ``==3.10.*``."""
    return _version(_bare(entry.text)[len("python") :].strip())


# -- conda's words ---------------------------------------------------------------------------


def _bare(text: str) -> str:
    return text.strip().rpartition("::")[2]  # without its channel


def _conda_name(text: str) -> str:
    return re.split(r"[<>=!~\[;@ ]", _bare(text), maxsplit=1)[0]


def _from_conda(text: str) -> str:
    """Turn conda's ``name=1.2`` into pip's ``name==1.2.*``."""
    name = _conda_name(text)
    if name in ("python", "pip") or name in NOT_FOR_PIP:
        return ""
    return f"{PIP_NAMES.get(name, name)}{_version(_bare(text)[len(name) :].strip())}"


def _version(spec: str) -> str:
    """Conda's ``=1.2`` means any 1.2, and with a build behind it this version alone."""
    pinned = re.fullmatch(r"(=?)([\w.*]+)([= ].*)?", spec)
    if pinned is None:
        return spec
    fuzzy, version, build = pinned.groups()
    is_prefix = fuzzy and not build and "*" not in version and version.count(".") < 2
    return f"=={version}.*" if is_prefix else f"=={version}"


# -- the file --------------------------------------------------------------------------------


def _parse(file: Path) -> tuple[Any, yaml.Node | None, list[Slip]]:
    """What a file says, the same as nodes with their lines, and whether ``- pip:`` was mended."""
    try:
        text = file.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise RepositoryError(
            f"{file.name} cannot be read ({error}): {EXPECTED}", stage="conda.yaml"
        ) from error
    slips = []
    try:
        content = yaml.safe_load(text)
    except yaml.YAMLError as error:
        text, line = _indent_pip(text)
        if not line:
            _raise(file, error)
        try:
            content = yaml.safe_load(text)
        except yaml.YAMLError as again:
            _raise(file, again)
        slips = [
            Slip(
                line,
                "'- pip:' is not indented like its list, and is read as if it were",
                "indent it, and the lines below it, like the entries above",
            )
        ]
    return content, yaml.compose(text, yaml.SafeLoader), slips


def _entries(file: Path, content: Any, root: yaml.Node | None) -> Iterator[Entry]:
    """The packages in what a file says."""
    listed = content.get("dependencies") if isinstance(content, dict) else None
    if not isinstance(listed, list):
        raise RepositoryError(
            f"{file.name} has no list 'dependencies': {EXPECTED}", stage="conda.yaml", line=1
        )
    for entry, node in _with_nodes(listed, root, "dependencies"):
        if isinstance(entry, str):
            yield Entry(entry, _line(node), by_conda=True)
            continue
        items = entry.get("pip") if isinstance(entry, dict) and list(entry) == ["pip"] else entry
        if not isinstance(items, list | None):
            raise _no_package(file, entry, node)
        for item, at in _with_nodes(items or [], node, "pip"):
            if not isinstance(item, str):
                raise _no_package(file, item, at)
            yield Entry(item, _line(at), by_conda=False)


def _no_package(file: Path, entry: Any, node: yaml.Node | None) -> RepositoryError:
    return RepositoryError(
        f"{file.name} line {_line(node)} has the dependency {entry!r:.80}: expected a "
        "package's name with its version, or 'pip:' with a list of such",
        stage="conda.yaml",
        line=_line(node),
    )


def _with_nodes(
    listed: Sequence[Any], parent: yaml.Node | None, key: str
) -> Iterator[tuple[Any, yaml.Node | None]]:
    """The items of a list under a key, each with its node, which knows its line."""
    pairs = parent.value if isinstance(parent, yaml.MappingNode) else []
    # The last key of a name counts. A list that is merged from elsewhere has the parent's line.
    nodes = next((value.value for name, value in reversed(pairs) if name.value == key), None)
    return zip(listed, nodes or [parent] * len(listed), strict=True)


def _line(node: yaml.Node | None) -> int:
    return int(node.start_mark.line) + 1 if node else 1


def _repeated_keys(root: yaml.Node | None) -> Iterator[Slip]:
    seen: dict[str, int] = {}
    for name, _ in root.value if isinstance(root, yaml.MappingNode) else ():
        if name.value in seen:
            what = f"'{name.value}:' stands here a second time, so that of line {seen[name.value]} "
            yield Slip(_line(name), f"{what}does not count", "make one of the two")
        seen[name.value] = _line(name)


def _repeated(entries: Sequence[Entry]) -> Iterator[Slip]:
    seen: dict[str, Entry] = {}
    for entry in entries:
        first = seen.setdefault(entry.name, entry) if entry.name else entry
        if first is not entry:
            what = f"{entry.text} is the package of line {first.line} ({first.text}) again"
            yield Slip(entry.line, what, "take one of the two lines out")


def _indent_pip(text: str) -> tuple[str, int]:
    """Indent ``- pip:`` if it stands left of its list, a mistake that is often copied."""
    lines, mended = text.splitlines(), 0
    for number, line in enumerate(lines):
        if re.fullmatch(r"\s*- pip:\s*", line):
            before = [other for other in lines[:number] if other.lstrip().startswith("- ")]
            indent = before[-1][: len(before[-1]) - len(before[-1].lstrip())] if before else "  "
            if line.startswith(indent):
                continue
            mended = mended or number + 1
            lines[number] = f"{indent}- pip:"
            _indent_items(lines, number + 1, len(indent) + 2)
    return "\n".join(lines), mended


def _indent_items(lines: list[str], start: int, least: int) -> None:
    for number in range(start, len(lines)):
        stripped = lines[number].lstrip()
        if not stripped.startswith("- "):
            return
        have = len(lines[number]) - len(stripped)
        lines[number] = " " * max(have, least) + stripped


def _raise(file: Path, error: yaml.YAMLError) -> NoReturn:
    where = getattr(error, "problem_mark", None)
    number = where.line + 1 if where else 0
    line = f" line {number}" if where else ""
    raise RepositoryError(
        f"{file.name}{line} is not valid YAML ({getattr(error, 'problem', error)}): {EXPECTED}",
        stage="conda.yaml",
        line=number,
    )
