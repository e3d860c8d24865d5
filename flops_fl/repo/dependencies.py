"""The packages that a repository needs, as pip reads them and as they are installed here."""

from __future__ import annotations

import logging
import re
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

from flops_fl.repo.environment import NOT_FOR_PIP, is_no_name, read_environment

log = logging.getLogger(__name__)

STUBS = ("flops-utils", "datasets")
"""What the modules of FLOps' templates import, and users seldom list."""
MISNAMED = {
    "environment.yaml": "rename it to conda.yaml",
    "environment.yml": "rename it to conda.yaml",
    "requirements.txt": "list its packages in conda.yaml",
}
"""Files that other tools take for what they are not here, and what to do."""


def misnamed(folder: Path) -> tuple[str, str]:
    """A file that was meant as the dependency file, and a sentence on it; empty if none was."""
    for name, remedy in MISNAMED.items():
        if (folder / name).is_file():
            return name, f"{name} is not read: {remedy}"
    return "", ""


def check_dependencies(folder: Path) -> None:
    """Say before a training what its dependency file will not do.

    Raises:
        RepositoryError: the file is not a conda environment.
    """
    environment = read_environment(folder)
    if environment is None:
        _, said = misnamed(folder)
        log.warning(
            "the repository has no conda.yaml: the training uses what is installed here, but the "
            "model in MLflow will not say which packages it needs%s",
            f" ({said})" if said else "",
        )
        return
    for slip in environment.slips:
        log.warning("%s line %d: %s", environment.file.name, slip.line, slip.what)
    for entry in environment.entries:
        if entry.name in NOT_FOR_PIP:
            log.info(
                "conda's package %s is left out of the model's requirements: pip has no such "
                "package",
                entry.name,
            )


def pip_requirements(folder: Path) -> list[str]:
    """The pip requirements of a repository, conda's own packages included.

    A repository without a dependency file has none: training needs only what is installed.

    Raises:
        RepositoryError: the file is not a conda environment.
    """
    environment = read_environment(folder)
    return [entry.pip for entry in environment.packages] if environment else []


def installed_requirements(folder: Path) -> tuple[list[str], list[str]]:
    """The requirements of a model trained here: the repository's, in the installed versions.

    If another version is installed than the repository pins, the model was trained with the
    installed one, so that one is listed. `flops-utils` is added if the code imports it, since
    FLOps' users seldom list it; so is `datasets`, which flops-utils imports and does not require.

    Returns:
        Requirements for pip, and a sentence for each that differs from the repository's own.

    Raises:
        RepositoryError: the dependency file is not a conda environment.
    """
    asked = pip_requirements(folder)
    names = {_name_of(text) for text in asked}
    if any(_imports_flops_utils(file) for file in sources(folder)):
        asked += [name for name in STUBS if name not in names]
    found, said = [], []
    for text in asked:
        try:
            requirement = Requirement(text)
            there = version(requirement.name)
        except PackageNotFoundError:
            found.append(text)
            continue
        except InvalidRequirement:  # a URL or an option, or else nothing that pip can read
            if is_no_name(text):
                found.append(text)
            else:
                said.append(f"{text!r}, which pip cannot read: it is left out")
            continue
        if not requirement.specifier.contains(there, prereleases=True):
            said.append(f"{text}, but {there} is installed and was used")
        requirement.url = None
        requirement.specifier = SpecifierSet(f"=={Version(there).public}")
        found.append(str(requirement))
    return found, said


def sources(folder: Path) -> list[Path]:
    """The repository's own Python files: at its top level and in folders it can import."""
    files = list(folder.glob("*.py"))
    for entry in code_folders(folder):
        files += entry.rglob("*.py")
    return sorted(files)


def code_paths(folder: Path) -> list[str]:
    """The repository's top-level modules and code folders, which loading its model may need."""
    return sorted(map(str, [*folder.glob("*.py"), *code_folders(folder)]))


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
