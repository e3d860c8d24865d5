"""The installed versions of the packages that a training depends on."""

from __future__ import annotations

import re
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from flops_fl.errors import FlopsError
from flops_fl.repo.dependencies import pip_requirements

OURS = ("flops-fl", "flwr", "numpy")


def installed_versions(folder: Path) -> dict[str, str]:
    """Versions by name: Python, flops-fl and its own packages, and those in conda.yaml.

    Packages that are not installed are left out. Build tags such as ``+cpu`` are cut off.
    """
    try:
        required = pip_requirements(folder)
    except (FlopsError, OSError):  # training does not need the file
        required = []
    found = {"python": f"{sys.version_info.major}.{sys.version_info.minor}"}
    for name in (*OURS, *map(_name, required)):
        try:
            found[name] = version(name).partition("+")[0]
        except (PackageNotFoundError, ValueError):
            continue
    return found


def _name(requirement: str) -> str:
    """The package's name in PEP 503's normal form."""
    name = re.split(r"[^\w.-]", requirement.strip(), maxsplit=1)[0]
    return re.sub(r"[-_.]+", "-", name).lower()
