"""Loss and accuracy by round, as a picture."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from flops_fl.observers.files import atomic
from flops_fl.types import RoundRecord

# Okabe and Ito's colours, told apart by colour-blind eyes, too.
_BLUE, _ORANGE = "#0072B2", "#D55E00"


def draw_history(history: Sequence[RoundRecord], path: Path, title: str) -> None:
    """Draw the history as a PNG; a round without a figure leaves a gap."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    figure = Figure(figsize=(8, 5.5), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    upper, lower = figure.subplots(2, 1, sharex=True)
    rounds = [record.round for record in history]
    panels = (
        (upper, "accuracy", [r.accuracy for r in history], _BLUE, max),
        (lower, "loss", [r.loss for r in history], _ORANGE, min),
    )
    for axes, name, values, colour, better in panels:
        plain = [math.nan if value is None else value for value in values]
        axes.plot(rounds, plain, color=colour, marker="o", markersize=4, linewidth=1.8)
        axes.set_ylabel(name)
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
        axes.margins(x=0.04, y=0.2)
        known = [(value, number) for value, number in zip(plain, rounds, strict=True)
                 if math.isfinite(value)]  # fmt: skip
        if known:
            best = better(value for value, _ in known)
            number = next(number for value, number in known if value == best)
            axes.annotate(
                f"{best:.4g}",
                (number, best),
                textcoords="offset points",
                xytext=(0, 8),
                ha="center",
                color=colour,
                fontweight="bold",
            )
    upper.set_title(title)
    lower.set_xlabel("round")
    lower.xaxis.set_major_locator(MaxNLocator(integer=True))
    with atomic(path) as file:
        figure.savefig(file, format="png")
