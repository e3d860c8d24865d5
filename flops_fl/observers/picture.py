"""Draws loss and accuracy by round into a picture."""

from __future__ import annotations

import importlib
import logging
import math
import threading
from collections.abc import Sequence
from pathlib import Path

from flops_fl.core.observer import Observer, RunInfo
from flops_fl.process.drawing import BLUE, LACKING, ORANGE, can_draw, figure, save
from flops_fl.text import counted
from flops_fl.types import Best, RoundRecord

log = logging.getLogger(__name__)


class PictureObserver(Observer):
    """Draws the history into a file at the end of a run.

    Importing Matplotlib takes a third of a second, so a thread does it while learners work.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._history: list[RoundRecord] = []
        self._title = ""
        self._loading: threading.Thread | None = None
        if can_draw():
            self._loading = threading.Thread(
                target=importlib.import_module, args=("matplotlib.figure",), daemon=True
            )

    def on_start(self, run: RunInfo, history: Sequence[RoundRecord]) -> None:
        self._history = list(history)
        self._title = f"{run.project_id}: {{}}, {run.strategy}"
        if self._loading:
            self._loading.start()
        else:
            log.warning("no picture will be drawn, since %s", LACKING)

    def on_round(self, record: RoundRecord, best: Best | None) -> None:
        self._history.append(record)

    def on_end(self, status: str, error: str | None) -> None:
        if not (self._loading and self._history):
            return
        self._loading.join()
        title = self._title.format(counted(len(self._history), "round"))
        try:
            draw_history(self._history, self._path, title)
        except OSError as fault:
            log.warning("cannot write the picture to %s (%s)", self._path, fault.strerror)


def draw_history(history: Sequence[RoundRecord], path: Path, title: str) -> None:
    """Draw the history as a PNG. A round without a value leaves a gap in its curve."""
    from matplotlib.ticker import MaxNLocator

    drawn = figure(8, 5.5)
    # Margins by hand: for automatic ones Matplotlib would draw everything twice.
    drawn.subplots_adjust(left=0.11, right=0.97, top=0.93, bottom=0.1, hspace=0.12)
    upper, lower = drawn.subplots(2, 1, sharex=True)
    rounds = [record.round for record in history]
    panels = (
        (upper, "accuracy", [r.accuracy for r in history], BLUE, max),
        (lower, "loss", [r.loss for r in history], ORANGE, min),
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
    save(drawn, path)
