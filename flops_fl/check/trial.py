"""Runs a repository's code in a process of its own, and reads what the process tells."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from typing import Any

from flops_fl.check.report import Order, Remark
from flops_fl.errors import FederationError, FlopsError, Refused, UsageError

LATER = 10.0  # seconds after which the parent ends a process whose own watchdog has not

KINDS = {kind.exit_code: kind for kind in (FlopsError, UsageError, FederationError, Refused)}
"""Errors of an operator, by what a trial tells of them."""
RAISED = "mend the code there; its traceback says how it came about"
REMEDIES = {
    "get_model_parameters": "return the same list of NumPy arrays of numbers each time",
    "set_model_parameters": "take the list as get_model_parameters gives it",
    "fit_model": "return the number of samples, such as len(self.x_train)",
    "evaluate_model": "return loss, accuracy and the number of samples, such as len(self.x_test)",
    "averaged_parameters": "list indices of what get_model_parameters returns",
}


@dataclass(slots=True)
class Trial:
    """What came of a trial."""

    remarks: list[Remark] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)


def run_trial(order: Order, module: str = "flops_fl.check.inside") -> Trial:
    """Run a trial to its end, and end all that it leaves running.

    Args:
        module: The program of the trial's process.

    Raises:
        FlopsError: the data cannot be used, or the strategy.
    """
    process = subprocess.Popen(
        [
            sys.executable,
            "-m",
            module,
            str(os.getpid()),
            json.dumps(asdict(order)),
        ],
        stdin=subprocess.DEVNULL,
        stdout=sys.stderr,  # what user code prints; stdout is for the answer
        process_group=0,  # Ctrl-C reaches us alone
    )
    try:
        code = _wait(process, order)
    finally:
        with suppress(ProcessLookupError, PermissionError):  # nobody is left
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    return _read(order, code)


def _wait(process: subprocess.Popen[bytes], order: Order) -> int | None:
    """Wait for the process; None if it had to be killed, since it began no step for too long."""
    told = -1
    while True:
        try:
            return process.wait(order.limit + LATER)
        except subprocess.TimeoutExpired:
            size = order.lines.stat().st_size if order.lines.exists() else 0
            if size == told:
                return None
            told = size


def _read(order: Order, code: int | None) -> Trial:
    trial, step, is_over = Trial(), "import", False
    for line in order.lines.read_text().splitlines() if order.lines.exists() else ():
        kind, value = json.loads(line)
        if kind == "step":
            step = value
        elif kind == "remark":
            trial.remarks.append(Remark(**value))
        elif kind == "fact":
            trial.facts |= value
        elif kind == "fault":
            trial.remarks.append(_fault(value))
        else:
            is_over = True
    if not is_over:
        trial.remarks.append(_ended(order, step, code))
    return trial


def _fault(said: dict[str, Any]) -> Remark:
    """The remark of an error that ended a trial.

    Raises:
        FlopsError: it is the operator's.
    """
    if "stage" not in said:
        raise KINDS[said["code"]](said["message"])
    stage, traceback = said["stage"], said["traceback"]
    remedy = RAISED if traceback else REMEDIES.get(stage, "see docs/ml-repositories.md")
    return Remark(
        rule=f"fails-{stage.strip('_').replace('_', '-')}",
        stage=stage, what=said["message"], remedy=remedy, traceback=traceback,
    )  # fmt: skip


def _ended(order: Order, step: str, code: int | None) -> Remark:
    """The remark of a process that has not come to its end."""
    trace = order.trace.read_text() if order.trace.exists() else ""
    where = "".join(reversed(re.findall(r'  File ".*\n', trace)))
    if code is None or trace.startswith("Timeout"):
        rule, what = "hangs", f"was not over after {order.limit:g} s"
        remedy = "see what it waits for; if it only needs long, give a larger --timeout"
    elif code < 0:
        rule, what = "crashes", f"was killed by {signal.Signals(-code).name}"
        remedy = "look at the compiled code that is called here, or whether the memory was full"
    else:
        rule, what = "exits", f"ended its process with exit code {code}"
        remedy = "raise an exception instead of calling os._exit"
    return Remark(rule=rule, stage=step, what=what, remedy=remedy, traceback=where)
