"""What a trial tells its parent: one line of JSON for each step, remark and fact.

A trial runs user code, which may end or stop its process at any point. So each line is written at
once, and a watchdog of C writes where the code stands when a step takes too long or crashes.
"""

from __future__ import annotations

import faulthandler
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NoReturn

from flops_fl.check.finding import Severity
from flops_fl.errors import FlopsError, RepositoryError
from flops_fl.options.data import NO_DATA
from flops_fl.options.use import HandOptions


@dataclass(frozen=True, kw_only=True, slots=True)
class Remark:
    """A finding of a trial, which knows no place yet."""

    rule: str
    stage: str
    """The stage of the contract whose code is at fault."""
    what: str
    remedy: str
    severity: Severity = "error"
    attribute: str = ""
    """An attribute of the ModelManager that is at fault; its first assignment is the place."""
    traceback: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Order:
    """What a trial has to do."""

    folder: str
    """The repository."""
    kept: str
    """A folder for the report, and for what user code writes."""
    kind: str
    """``built``, ``trained``, or what another program of a trial is called."""
    limit: float
    """Seconds for each step."""
    data: dict[str, Any] | None
    """What `DataOptions.told` says; empty for a repository that brings its own, None for no fit."""
    learner: str
    strategy: str = ""
    """Whose config the fit receives; empty for FedAvg, or a strategy for a model without a mean."""
    strategy_option: Mapping[str, Any] = field(default_factory=dict)
    fitted: str = ""
    """Digest of the first fit's result in another process; for ``trained``."""

    @property
    def lines(self) -> Path:
        """The report's file."""
        return Path(self.kept, f"{self.kind}.jsonl")

    @property
    def trace(self) -> Path:
        """The watchdog's file."""
        return Path(self.kept, f"{self.kind}.trace")


def order_of(options: HandOptions, folder: Path, kept: Path, *, kind: str, limit: float) -> Order:
    """An order with the data and the learner of options; ``--data none`` is the code's own."""
    path = options.data if isinstance(options.data, Path) else None
    own = path is not None and path.name == NO_DATA and not path.exists()
    data = None if options.data is None else {} if own else options.told()
    return Order(
        folder=str(folder),
        kept=str(kept),
        kind=kind,
        limit=limit,
        data=data,
        learner=options.learner,
    )


class Report:
    """The report of a trial, as the trial writes it."""

    def __init__(self, order: Order) -> None:
        self._limit = order.limit
        self._lines = order.lines.open("a", buffering=1)
        self._trace = order.trace.open("w")
        faulthandler.enable(self._trace, all_threads=False)
        self._end_process = os._exit
        self._process = os.getpid()
        os._exit = self._exit

    def step(self, stage: str) -> None:
        """Begin a step, which may take its time from now."""
        faulthandler.dump_traceback_later(self._limit, exit=True, file=self._trace)
        self._write("step", stage)

    def remark(self, rule: str, stage: str, what: str, remedy: str, **more: Any) -> None:
        """Tell of a mistake."""
        remark = Remark(rule=rule, stage=stage, what=what, remedy=remedy, **more)
        self._write("remark", asdict(remark))

    def fact(self, **facts: Any) -> None:
        """Tell a figure."""
        self._write("fact", facts)

    def fault(self, error: FlopsError) -> None:
        """Tell why the trial cannot go on."""
        said = {"message": str(error), "code": error.exit_code}
        if isinstance(error, RepositoryError):
            said |= {"stage": error.stage, "traceback": error.traceback}
        self._write("fault", said)

    def end(self) -> NoReturn:
        """Tell that all has been done, and end the process, whatever threads user code has left."""
        faulthandler.cancel_dump_traceback_later()
        self._write("end", None)
        self._end_process(0)

    def _exit(self, status: int) -> NoReturn:
        """Note where user code calls `os._exit`, unless in a process that it has forked."""
        if os.getpid() == self._process:
            faulthandler.dump_traceback(self._trace, all_threads=False)
        self._end_process(status)

    def _write(self, kind: str, value: Any) -> None:
        self._lines.write(json.dumps([kind, value]) + "\n")
