"""Commands that messages tell people to type, in a form that works when it is pasted."""

from __future__ import annotations

import shlex
import shutil
import sys
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path


def install(extra: str) -> str:
    """The command that installs an extra of pyproject.toml: flops-fl is on no package index yet."""
    return f"pip install '.[{extra}]' in a clone of flops-fl"


def is_installed(package: str) -> bool:
    """Whether a package is installed; does not import it."""
    try:
        distribution(package)
    except PackageNotFoundError:
        return False
    return True


def program(name: str) -> str:
    """An installed program as a shell can run it: its name if it is on PATH, else its path."""
    beside = Path(sys.executable).with_name(name)
    return name if shutil.which(name) or not beside.exists() else shlex.quote(str(beside))
