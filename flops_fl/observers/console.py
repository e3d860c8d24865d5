"""Shows a person the progress of a run."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import reduce
from pathlib import Path
from textwrap import indent

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
)
from rich.table import Table
from rich.text import Text

from flops_fl.core.failures import KINDS, Kind, alike
from flops_fl.core.observer import Observer, RunInfo
from flops_fl.limits import REMIND
from flops_fl.observers.presence import Presence
from flops_fl.observers.reminder import Reminder
from flops_fl.process.lines import stamp
from flops_fl.process.prints import last_lines, log_of
from flops_fl.text import counted, paragraph, sentence, some
from flops_fl.types import Best, RoundRecord, Scalar, Stage

LAST_LINES = 5  # lines shown of what a failed learner has printed


class ConsoleObserver(Observer):
    """Writes a line for each round. On a terminal it also shows a bar for each stage.

    The bar names the learners that are awaited. Other streams (CI, container logs) get the lines
    alone, and reminders of who is awaited if a wait is long.
    """

    def __init__(
        self, console: Console, prints: Path | None = None, remind: float = REMIND
    ) -> None:
        self._console = console
        self._prints = prints
        self._reminder = Reminder(self._remind, remind)
        self._wait = ""
        self._progress: Progress | None = None
        self._bar: TaskID | None = None
        self._awaited: set[str] = set()
        self._failed = 0
        self._rounds = 0
        self._history: list[RoundRecord] = []
        self._best: Best | None = None
        self._unevaluated = self._percent = False
        self._kinds: set[Kind] = set()  # of failures whose traceback was shown
        self._presence = Presence(self._say)

    def on_start(self, run: RunInfo, history: Sequence[RoundRecord]) -> None:
        self._rounds = run.rounds
        self._history = list(history)
        self._best = reduce(Best.after, history, None)
        done = history[-1].round if history else 0
        again = f", resumed after round {done}" if history else ""
        if history and 0 < run.rounds <= done:
            again += f": all its rounds are done, ask for more than {done} to go on"
        commit, plus, changes = (run.repo_commit or "").partition("+")
        commit = f" at {commit[:10]}{plus}{changes}" if commit else ""
        planned = counted(run.rounds, "round") if run.rounds else "rounds as its root asks"
        self._say(f"{run.project_id}: {run.repo_source}{commit}, {planned}{again}")
        used = ", ".join(f"{name} {value}" for name, value in run.options.items())
        self._say(f"strategy {run.strategy}: {used}")
        if self._console.is_terminal:
            self._progress = Progress(
                TextColumn("{task.description}"),
                BarColumn(bar_width=30),
                MofNCompleteColumn(),
                TimeElapsedColumn(),
                _Awaited(self._awaiting),
                console=self._console,
                transient=True,
            )
            self._progress.start()
            self._bar = self._progress.add_task("starting", total=None)
        else:
            self._reminder.start()

    def on_wait(self, present: Sequence[str], minimum: int) -> None:
        if self._awaited:  # during a stage the bar says more
            return
        count = len(present)
        if count >= minimum and not self._rounds:
            self._idle()
        elif self._progress is not None and self._bar is not None:
            total = max(minimum, count)
            self._progress.reset(self._bar, total=total, completed=count, description="joining")
        elif count < minimum:
            self._wait = f"{count} of {minimum} learners present ({some(present) or 'nobody'})"
            self._reminder.begin()
        else:
            self._wait = ""
        self._presence.present(present, minimum, listed=self._progress is None)

    def on_cut_off(self, learner: str, reason: str, seconds: float) -> None:
        self._presence.cut_off(learner, reason, seconds)

    def on_return(self, learner: str) -> None:
        self._presence.back(learner)

    def on_stage(self, round: int, stage: Stage, learners: Sequence[str]) -> None:
        self._awaited, self._failed = set(learners), 0
        self._wait = f"{self._named(round)} {stage}"
        self._begin(len(learners))

    def on_answer(self, round: int, stage: Stage, learner: str, failure: str | None) -> None:
        self._awaited.discard(learner)
        self._failed += failure is not None
        if self._progress is not None and self._bar is not None:
            self._progress.advance(self._bar)
        if not self._awaited and not self._rounds:
            self._idle()

    def _idle(self) -> None:
        """A cluster awaits no learner: its next stage comes from its root."""
        self._wait = "waiting for the root"
        self._begin(None)

    def _begin(self, total: int | None) -> None:
        if self._progress is not None and self._bar is not None:
            self._progress.reset(self._bar, total=total, description=self._wait)
        else:
            self._reminder.begin()

    def on_initial(self, record: RoundRecord) -> None:
        self._say(f"{self._named(0)}, the initial model")
        self._say_strategys(record)

    def on_round(self, record: RoundRecord, best: Best | None) -> None:
        self._history.append(record)
        self._best = best
        mark = "  best so far" if best and best.round == record.round else ""
        # Rounds of a cluster have no figures: its learners evaluate the root's model.
        figures = f"loss {_figure(record.loss)}  accuracy {_figure(record.accuracy)}  "
        self._say(
            f"{self._named(record.round)}  {record.seconds:7.2f} s  "
            f"{figures if self._rounds else ''}{_who(record)}{mark}"
        )
        self._say_strategys(record)
        self._say_failures(record)
        if (record.accuracy or 0.0) > 1 and not self._percent:
            self._percent = True
            said = (
                f"  accuracy {record.accuracy:g}, expected a share from 0 to 1: is it in percent?"
            )
            self._say(said, "yellow")
        if record.not_evaluated and self._rounds and not self._unevaluated:
            self._unevaluated = True
            why = record.not_evaluated.partition(": ")[0]  # the failures are listed above
            said = f"  not evaluated: {why}. A round without figures cannot become the best"
            self._say(said, "yellow")

    def _named(self, round: int) -> str:
        known = self._rounds and round <= self._rounds
        return f"round {round}/{self._rounds}" if known else f"round {round}"

    def _say_strategys(self, record: RoundRecord) -> None:
        """What the strategy has to say: its own figures, and what it made of the learners'."""
        server: dict[str, Scalar] = dict(record.server_metrics)
        if record.server_loss is not None:
            server = {"loss": record.server_loss, **server}
        said = {"server": server, "fit": record.fit_metrics, "evaluate": record.metrics}
        for what, metrics in said.items():
            if metrics:
                told = ", ".join(f"{name} {_shown(value)}" for name, value in metrics.items())
                self._say(f"  {what}: {sentence(told)}")

    def on_failed_round(self, record: RoundRecord) -> None:
        self._say(f"{self._named(record.round)} failed", "red")
        # Where nobody trained, the error that ends the run has the reasons.
        self._say_failures(record, reasons=bool(record.learners))

    def _say_failures(self, record: RoundRecord, *, reasons: bool = True) -> None:
        """Say equal failures in one line, and each traceback once in a run."""
        groups = alike(record.failures)
        for group in groups[:KINDS]:
            why = f": {group.reason}" if reasons else ""
            self._say(f"  {group.who} failed in {group.stage}{why}", "red")
            if group.kind not in self._kinds:
                if group.traceback:
                    self._show(indent(group.traceback.rstrip(), "    "))
                self._show_printed(group.learners[0])
            self._kinds.add(group.kind)
        rest = sum(len(group.learners) for group in groups[KINDS:])
        if rest:
            self._say(f"  and {rest} more failed, for other reasons", "red")

    def _show_printed(self, learner: str) -> None:
        path = log_of(self._prints, learner) if self._prints else Path()
        lines = last_lines(path, LAST_LINES)
        if lines:
            said = indent(paragraph("\n".join(lines)), "    ")
            self._show(f"  its last lines of output, from {path}:\n{said}")

    def on_end(self, status: str, error: str | None) -> None:
        self._reminder.stop()
        self._presence.stop()
        if self._progress is not None:
            self._progress.stop()
            self._progress = None
        if self._history:
            self._console.print(self._summary(status))

    def _summary(self, status: str) -> Table:
        table = Table(title=f"training {status}", title_justify="left", show_header=False)
        seconds = sum(record.seconds for record in self._history)
        failures = sum(len(record.failures) for record in self._history)
        done = str(len(self._history))
        if self._rounds:  # a run that is resumed may be asked for fewer than it has
            short = len(self._history) > self._rounds
            done += f" ({self._rounds} were asked for)" if short else f" of {self._rounds}"
        table.add_row("rounds", f"{done} in {seconds:.1f} s")
        last = self._history[-1]
        if self._rounds:
            table.add_row("last", f"loss {_figure(last.loss)}, accuracy {_figure(last.accuracy)}")
            table.add_row("best", self._best_row())
        failed = counted(failures, "failure")
        table.add_row("learners", f"{_who(last)} in the last round, {failed}")
        return table

    def _best_row(self) -> str:
        best = self._best
        if best is None:
            return "none: no round was evaluated"
        return f"round {best.round}: loss {_figure(best.loss)}, accuracy {_figure(best.accuracy)}"

    def _awaiting(self) -> str:
        awaited = self._awaited.copy()  # called by other threads
        text = f"awaiting {self._presence.named(awaited)}" if awaited else ""
        return text + (f"  {self._failed} failed" if self._failed else "")

    def _remind(self, since: float, seconds: float) -> None:
        clock = time.strftime("%H:%M:%S", time.localtime(since))
        text = f"{self._wait}: {self._awaiting()}" if self._awaited else self._wait
        if text:
            self._say(f"{text}, since {clock} ({seconds:.0f} s)", "dim")

    def _say(self, text: str, style: str = "") -> None:
        line = stamp(terminal=self._console.is_terminal) + text
        self._console.print(Text(line, style=style), soft_wrap=True, highlight=False)

    def _show(self, block: str) -> None:
        self._console.print(Text(block, style="dim"), soft_wrap=True, highlight=False)


class _Awaited(ProgressColumn):
    """Names the learners awaited; computed when the screen is refreshed, not at each answer."""

    def __init__(self, text: Callable[[], str]) -> None:
        super().__init__()
        self._text = text

    def render(self, task: Task) -> Text:
        return Text(self._text(), style="dim")


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def _shown(value: Scalar) -> str:
    return f"{value:.4f}" if isinstance(value, float) else str(value)


def _who(record: RoundRecord) -> str:
    """How many trained, in words; clusters with the learners that they speak for."""
    plain = len(record.learners) - len(record.clusters)
    below = sum(counts["learners"] for counts in record.clusters.values())
    parts = [counted(plain, "learner")] if plain or not record.clusters else []
    if record.clusters:
        parts.append(f"{counted(len(record.clusters), 'cluster')} of {counted(below, 'learner')}")
    return ", ".join(parts)
