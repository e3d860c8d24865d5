"""What a person sees while the rounds go on."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
)
from rich.table import Table
from rich.text import Text

from flops_fl.core.observer import Observer, RunInfo
from flops_fl.types import Best, Parameters, RoundRecord, Stage

FEW = 3  # names that still fit on a line


class ConsoleObserver(Observer):
    """A line for each round; on a terminal also who is awaited, and a bar in each stage.

    A stream that is no terminal (CI, container logs) gets the lines alone.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._progress: Progress | None = None
        self._bar: TaskID | None = None
        self._awaited: set[str] = set()
        self._failed = 0
        self._rounds = 0
        self._history: list[RoundRecord] = []
        self._best: Best | None = None
        self._said = ""

    def on_start(self, run: RunInfo, history: Sequence[RoundRecord]) -> None:
        self._rounds = run.rounds
        self._history = list(history)
        again = f", going on after round {history[-1].round}" if history else ""
        commit = f" at {run.repo_commit[:10]}" if run.repo_commit else ""
        self._say(f"{run.project_id}: {run.repo_source}{commit}, {run.rounds} rounds{again}")
        if self._console.is_terminal:
            self._progress = Progress(
                TextColumn("{task.description}"),
                BarColumn(bar_width=30),
                MofNCompleteColumn(),
                TimeElapsedColumn(),
                TextColumn("{task.fields[awaited]}", style="dim"),
                console=self._console,
                transient=True,
            )
            self._progress.start()
            self._bar = self._progress.add_task("starting", total=None, awaited="")

    def on_wait(self, waiting_for: str, present: int, minimum: int) -> None:
        if self._awaited:  # in the middle of a stage the bar says more
            return
        if self._progress is not None and self._bar is not None:
            self._progress.reset(self._bar, total=max(minimum, present), description="joining")
            self._progress.update(self._bar, completed=present, awaited=f"{waiting_for} to join")
        text = f"{present} of {minimum} {waiting_for} present"
        if self._progress is None and present <= minimum and text != self._said:
            self._said = text
            self._say(text)

    def on_stage(self, round: int, stage: Stage, learners: Sequence[str]) -> None:
        self._awaited, self._failed = set(learners), 0
        if self._progress is not None and self._bar is not None:
            text = f"round {round}/{self._rounds} {stage}"
            self._progress.reset(self._bar, total=len(learners), description=text)
            self._show_awaited()

    def on_answer(self, round: int, stage: Stage, learner: str, failure: str | None) -> None:
        self._awaited.discard(learner)
        self._failed += failure is not None
        if self._progress is not None and self._bar is not None:
            self._progress.advance(self._bar)
            self._show_awaited()

    def on_round(self, record: RoundRecord, parameters: Parameters, best: Best) -> None:
        self._history.append(record)
        self._best = best
        mark = "  best so far" if best.round == record.round else ""
        self._say(
            f"round {record.round}/{self._rounds}  {record.seconds:7.2f} s  "
            f"loss {_figure(record.loss)}  accuracy {_figure(record.accuracy)}  "
            f"{_count(len(record.learners), 'learner')}{mark}"
        )
        for failure in record.failures[:FEW]:
            self._say(f"  {failure.learner} failed in {failure.stage}: {failure.reason}", "red")
            if failure.traceback:
                self._say(failure.traceback.rstrip(), "dim")
        if len(record.failures) > FEW:
            self._say(f"  and {len(record.failures) - FEW} more failed", "red")

    def on_end(self, status: str, error: str | None, parameters: Parameters) -> None:
        if self._progress is not None:
            self._progress.stop()
            self._progress = None
        if self._history:
            self._console.print(self._summary(status))

    def _summary(self, status: str) -> Table:
        table = Table(title=f"training {status}", title_justify="left", show_header=False)
        seconds = sum(record.seconds for record in self._history)
        failures = sum(len(record.failures) for record in self._history)
        table.add_row("rounds", f"{len(self._history)} of {self._rounds} in {seconds:.1f} s")
        last = self._history[-1]
        table.add_row("last", f"loss {_figure(last.loss)}, accuracy {_figure(last.accuracy)}")
        if self._best:
            figures = f"loss {_figure(self._best.loss)}, accuracy {_figure(self._best.accuracy)}"
            table.add_row("best", f"round {self._best.round}: {figures}")
        table.add_row("learners", f"{len(last.learners)} in the last round, {failures} failures")
        return table

    def _show_awaited(self) -> None:
        assert self._progress is not None
        assert self._bar is not None
        text = ""
        if 0 < len(self._awaited) <= FEW:
            text = "awaiting " + ", ".join(sorted(self._awaited))
        if self._failed:
            text += f"  {self._failed} failed"
        self._progress.update(self._bar, awaited=text)

    def _say(self, text: str, style: str = "") -> None:
        self._console.print(Text(text, style=style), soft_wrap=True, highlight=False)


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def _count(number: int, name: str) -> str:
    return f"{number} {name}" if number == 1 else f"{number} {name}s"
