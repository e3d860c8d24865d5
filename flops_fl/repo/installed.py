"""The installed versions of the packages that a training depends on."""

from __future__ import annotations

import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from flops_fl.errors import FlopsError
from flops_fl.repo.environment import read_environment

OURS = ("flops-fl", "flwr", "numpy")


def installed_versions(folder: Path) -> dict[str, str]:
    """Versions by name: Python, flops-fl and its own packages, and those in conda.yaml.

    Packages that are not installed are left out. Build tags such as ``+cpu`` are cut off.
    """
    try:
        environment = read_environment(folder)
    except (FlopsError, OSError):  # training does not need the file
        environment = None
    required = [entry.name for entry in environment.packages] if environment else []
    found = {"python": f"{sys.version_info.major}.{sys.version_info.minor}"}
    for name in (*OURS, *required):
        try:
            found[name] = version(name).partition("+")[0]
        except (PackageNotFoundError, ValueError):
            continue
    return found
