"""What is installed here of what a training depends on."""

from __future__ import annotations

import re
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from flops_fl.errors import FlopsError
from flops_fl.repo.dependencies import pip_requirements

OURS = ("flops-fl", "flwr", "numpy")


def installed_versions(folder: Path) -> dict[str, str]:
    """Versions by name: of Python, of ours, and of what a repository's conda.yaml names.

    What is not installed is left out, and so is what tells builds of one version apart.
    """
    try:
        required = pip_requirements(folder)
    except (FlopsError, OSError):  # training does without the file
        required = []
    found = {"python": f"{sys.version_info.major}.{sys.version_info.minor}"}
    for name in (*OURS, *map(_name, required)):
        try:
            found[name] = version(name).partition("+")[0]
        except (PackageNotFoundError, ValueError):
            continue
    return found


def _name(requirement: str) -> str:
    """The package's name, spelled as PEP 503 has it."""
    name = re.split(r"[^\w.-]", requirement.strip(), maxsplit=1)[0]
    return re.sub(r"[-_.]+", "-", name).lower()
