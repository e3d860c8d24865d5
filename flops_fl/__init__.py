"""flops-fl: federated learning of plain ML repositories, on Flower.

`open_repository` gives a repository's ModelManager, for a script or a notebook; `load` gives it
with the parameters that a run has trained.
"""

from typing import Any

_PUBLIC = {"open_repository": "flops_fl.use.repository", "load": "flops_fl.use.model"}


def __getattr__(name: str) -> Any:
    """What is public, and `__version__`, looked up when somebody asks: a process starts without."""
    from importlib import import_module, metadata

    if name in _PUBLIC:
        return getattr(import_module(_PUBLIC[name]), name)
    if name != "__version__":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        return metadata.version("flops-fl")
    except metadata.PackageNotFoundError:  # an unpacked source tree that was never installed
        return "0+unknown"


def __dir__() -> list[str]:
    return sorted([*globals(), *_PUBLIC])
