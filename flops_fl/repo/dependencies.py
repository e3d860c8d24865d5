"""What a repository's conda.yaml (or conda.yml) asks for."""

from __future__ import annotations

import logging
import re
from pathlib import Path
from typing import Any

import yaml

from flops_fl.errors import RepositoryError

log = logging.getLogger(__name__)

NAMES = ("conda.yaml", "conda.yml")


def pip_requirements(folder: Path) -> list[str]:
    """The pip requirements of a repository; conda's own packages come under the same names.

    A repository without a dependency file has none: that is for its image to mind, not for
    training where all is installed.

    Raises:
        RepositoryError: the file is no conda environment.
    """
    file = next((folder / name for name in NAMES if (folder / name).is_file()), None)
    if file is None:
        return []
    content = _parse(file)
    entries = content.get("dependencies") if isinstance(content, dict) else None
    if not isinstance(entries, list):
        raise RepositoryError(f"{file.name} has no list of dependencies", stage="conda.yaml")
    out: list[str] = []
    for entry in entries:
        if isinstance(entry, str):
            out += _from_conda(entry)
        elif isinstance(entry, dict):
            out += [str(item) for item in entry.get("pip") or []]
    return out


def _from_conda(entry: str) -> list[str]:
    """``name=1.2`` in conda's spelling as pip's ``name==1.2``; python and pip are no packages."""
    name = re.split(r"[<>=! ]", entry.strip(), maxsplit=1)[0].rpartition("::")[2]
    if name in ("python", "pip"):
        return []
    version = entry.strip()[len(name) :]
    pinned = re.fullmatch(r"=([\w.]+)(=.*)?", version)
    return [f"{name}=={pinned.group(1)}" if pinned else f"{name}{version}"]


def _parse(file: Path) -> Any:
    text = file.read_text()
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        mended = _indent_pip(text, file.name)
        try:
            return yaml.safe_load(mended) if mended != text else _raise(file, error)
        except yaml.YAMLError as again:
            return _raise(file, again)


def _indent_pip(text: str, name: str) -> str:
    """Accept ``- pip:`` that stands left of the list it belongs to, a mistake often copied."""
    lines = text.splitlines()
    for number, line in enumerate(lines):
        if re.fullmatch(r"\s*- pip:\s*", line):
            before = [other for other in lines[:number] if other.lstrip().startswith("- ")]
            indent = before[-1][: len(before[-1]) - len(before[-1].lstrip())] if before else "  "
            if line.startswith(indent):
                continue
            log.warning(
                "%s line %d: '- pip:' is indented too little; read as meant", name, number + 1
            )
            lines[number] = f"{indent}- pip:"
            _indent_items(lines, number + 1, len(indent) + 2)
    return "\n".join(lines)


def _indent_items(lines: list[str], start: int, least: int) -> None:
    for number in range(start, len(lines)):
        stripped = lines[number].lstrip()
        if not stripped.startswith("- "):
            return
        have = len(lines[number]) - len(stripped)
        lines[number] = " " * max(have, least) + stripped


def _raise(file: Path, error: yaml.YAMLError) -> Any:
    where = getattr(error, "problem_mark", None)
    line = f" line {where.line + 1}" if where else ""
    raise RepositoryError(
        f"{file.name}{line} is not valid YAML: {getattr(error, 'problem', error)}",
        stage="conda.yaml",
    )
