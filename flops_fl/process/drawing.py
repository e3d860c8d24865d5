"""Pictures: a figure of Matplotlib, which needs no screen, written as PNG or SVG."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from flops_fl.errors import UsageError
from flops_fl.extras import install
from flops_fl.process.files import atomic

FORMATS = (".png", ".svg")
# From Okabe and Ito's palette, which colour-blind people can tell apart, too.
BLUE, ORANGE = "#0072B2", "#D55E00"
LACKING = f"Matplotlib is not installed: {install('aggregator')}"


def can_draw() -> bool:
    """Whether Matplotlib is installed; does not import it."""
    return importlib.util.find_spec("matplotlib") is not None


def require_drawing() -> None:
    """Check that Matplotlib is installed.

    Raises:
        UsageError: it is not.
    """
    if not can_draw():
        raise UsageError(f"there can be no picture, since {LACKING}")


@contextmanager
def asked_for(path: Path) -> Iterator[None]:
    """Say it in a sentence if the file of ``--picture`` cannot be written.

    Raises:
        UsageError: it cannot.
    """
    try:
        yield
    except OSError as error:
        raise UsageError(
            f"--picture {path} cannot be written ({error.strerror}): give another file"
        ) from None


def figure(width: float, height: float) -> Any:
    """An empty figure of this size in inches."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    drawn = Figure(figsize=(width, height), dpi=120)
    FigureCanvasAgg(drawn)
    return drawn


def save(drawn: Any, path: Path) -> None:
    """Write a figure in the format that the file's ending says; the same figure, the same bytes.

    Raises:
        OSError: it cannot be written.
    """
    import matplotlib as mpl

    # Otherwise an SVG has the time, and names that are drawn at random.
    plain = {"metadata": {"Date": None}} if path.suffix == ".svg" else {}
    with mpl.rc_context({"svg.hashsalt": "flops-fl"}), atomic(path) as file:
        drawn.savefig(file, format=path.suffix[1:], **plain)
