"""flops-fl: federated learning of plain ML repositories, on Flower."""

from typing import Any


def __getattr__(name: str) -> Any:
    """`__version__`, looked up when somebody asks: a process starts without it."""
    if name != "__version__":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("flops-fl")
    except PackageNotFoundError:  # an unpacked source tree that was never installed
        return "0+unknown"
