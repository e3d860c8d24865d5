"""Reads the dependencies in a repository's conda.yaml (or conda.yml)."""

from __future__ import annotations

import logging
import re
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, NoReturn

import yaml
from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from flops_fl.errors import RepositoryError

log = logging.getLogger(__name__)

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


def check_dependencies(folder: Path) -> None:
    """Say before a training what its dependency file will not do.

    Raises:
        RepositoryError: the file is not a conda environment.
    """
    file = _file(folder)
    if file is None:
        log.warning(
            "the repository has no conda.yaml: the training uses what is installed here, but the "
            "model in MLflow will not say which packages it needs"
        )
        return
    content, mended = _parse(file)
    if mended:
        log.warning(
            "%s line %d: '- pip:' is not indented like its list: reading it as if it were",
            file.name,
            mended,
        )
    _entries(file, content)


def pip_requirements(folder: Path) -> list[str]:
    """The pip requirements of a repository, conda's own packages included.

    A repository without a dependency file has none: training needs only what is installed.

    Raises:
        RepositoryError: the file is not a conda environment.
    """
    file = _file(folder)
    if file is None:
        return []
    out: list[str] = []
    for entry in _entries(file, _parse(file)[0]):
        if isinstance(entry, str):
            out += _from_conda(entry)
        else:
            out += [str(item) for item in entry["pip"] or []]
    return out


def _file(folder: Path) -> Path | None:
    return next((folder / name for name in NAMES if (folder / name).is_file()), None)


def _entries(file: Path, content: Any) -> list[str | dict[str, list[Any] | None]]:
    """The list of dependencies in what a file says."""
    entries = content.get("dependencies") if isinstance(content, dict) else None
    if not isinstance(entries, list):
        raise RepositoryError(
            f"{file.name} has no list 'dependencies': {EXPECTED}", stage="conda.yaml"
        )
    for entry in entries:
        of_pip = isinstance(entry, dict) and list(entry) == ["pip"]
        if not (isinstance(entry, str) or (of_pip and isinstance(entry["pip"], list | None))):
            raise RepositoryError(
                f"{file.name} has the dependency {entry!r:.80}: expected a package's name with its "
                "version, or 'pip:' with a list of such",
                stage="conda.yaml",
            )
    return entries


def _from_conda(entry: str) -> list[str]:
    """Turn conda's ``name=1.2`` into pip's ``name==1.2``; leave out python and pip themselves."""
    spec = entry.strip().rpartition("::")[2]  # without its channel
    name = re.split(r"[<>=! ]", spec, maxsplit=1)[0]
    if name in ("python", "pip"):
        return []
    if name in NOT_FOR_PIP:
        log.info(
            "conda's package %s is left out of the model's requirements: pip has no such package",
            name,
        )
        return []
    version = spec[len(name) :].strip()
    name = PIP_NAMES.get(name, name)
    pinned = re.fullmatch(r"=?([\w.*]+)([= ].*)?", version)
    return [f"{name}=={pinned.group(1)}" if pinned else f"{name}{version}"]


def installed_requirements(folder: Path) -> tuple[list[str], list[str]]:
    """The requirements of a model trained here: the repository's, in the installed versions.

    If another version is installed than the repository pins, the model was trained with the
    installed one, so that one is listed. `flops-utils` is added if the code imports it, since
    FLOps' users seldom list it.

    Returns:
        Requirements for pip, and a sentence for each that differs from the repository's own.

    Raises:
        RepositoryError: the dependency file is not a conda environment.
    """
    asked = pip_requirements(folder)
    names = {_name_of(text) for text in asked}
    if "flops-utils" not in names and any(_imports_flops_utils(file) for file in sources(folder)):
        asked.append("flops-utils")
    found, said = [], []
    for text in asked:
        try:
            requirement = Requirement(text)
            there = version(requirement.name)
        except PackageNotFoundError:
            found.append(text)
            continue
        except InvalidRequirement:  # a URL or an option, or else nothing that pip can read
            if re.match(r"-|\.|/|[\w+]+:", text):
                found.append(text)
            else:
                said.append(f"{text!r}, which pip cannot read: it is left out")
            continue
        if requirement.specifier.contains(there, prereleases=True):
            exact = text if requirement.specifier else f"{requirement.name}=={there}"
        else:
            exact = f"{requirement.name}=={there}"
            said.append(f"{text}, but {there} is installed and was used")
        found.append(exact)
    return found, said


def sources(folder: Path) -> list[Path]:
    """The repository's own Python files: at its top level and in folders it can import."""
    files = list(folder.glob("*.py"))
    for entry in code_folders(folder):
        files += entry.rglob("*.py")
    return sorted(files)


def code_folders(folder: Path) -> list[Path]:
    """Top-level folders that can be imported and have Python files in them."""
    return sorted(
        entry
        for entry in folder.iterdir()
        if entry.is_dir()
        and entry.name.isidentifier()
        and entry.name not in ("runs", "__pycache__")
        and any(entry.glob("*.py"))
    )


def _imports_flops_utils(file: Path) -> bool:
    return re.search(r"^\s*(from|import) flops_utils\b", file.read_text(), re.MULTILINE) is not None


def _name_of(requirement: str) -> str:
    try:
        return canonicalize_name(Requirement(requirement).name)
    except InvalidRequirement:
        return requirement


def _parse(file: Path) -> tuple[Any, int]:
    """What a file says, and the line in which ``- pip:`` was indented for it; 0 for none."""
    try:
        text = file.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise RepositoryError(
            f"{file.name} cannot be read ({error}): {EXPECTED}", stage="conda.yaml"
        ) from error
    try:
        return yaml.safe_load(text), 0
    except yaml.YAMLError as error:
        mended, line = _indent_pip(text)
        try:
            return yaml.safe_load(mended if line else _raise(file, error)), line
        except yaml.YAMLError as again:
            _raise(file, again)


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
    line = f" line {where.line + 1}" if where else ""
    raise RepositoryError(
        f"{file.name}{line} is not valid YAML ({getattr(error, 'problem', error)}): {EXPECTED}",
        stage="conda.yaml",
    )
