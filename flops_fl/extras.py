"""Commands that messages tell people to type: written so that they work as they are."""

from __future__ import annotations

import shlex
import shutil
import sys
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path


def install(extra: str) -> str:
    """How to add what an extra of pyproject.toml names: flops-fl is on no package index yet."""
    return f"pip install '.[{extra}]' in a clone of flops-fl"


def is_installed(package: str) -> bool:
    """Whether pip has put it here; nothing is imported."""
    try:
        distribution(package)
    except PackageNotFoundError:
        return False
    return True


def program(name: str) -> str:
    """A program of an installed package as the shell finds it: by name, else beside Python."""
    beside = Path(sys.executable).with_name(name)
    return name if shutil.which(name) or not beside.exists() else shlex.quote(str(beside))
