"""Learner processes of a simulation: a host process imports their libraries, then forks them.

``python -m flops_fl.actors`` does the imports and reads a line of JSON from stdin, with the
options of each process. Then it forks these processes. They end when stdin is closed, so a killed
parent leaves no process behind.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any, TypeAlias

from flops_fl.actors.faults import read_fault, telling, write_fault
from flops_fl.errors import INTERRUPTED, Abort, FederationError
from flops_fl.net.address import Address
from flops_fl.options.aggregator import AggregatorOptions
from flops_fl.options.learner import LearnerOptions
from flops_fl.options.reading import build
from flops_fl.process.libraries import prepare_libraries
from flops_fl.process.lines import speak
from flops_fl.process.main import run_main
from flops_fl.process.memory import freeze_imports
from flops_fl.process.prints import last_lines, log_of
from flops_fl.process.signals import end_with_parent
from flops_fl.process.streams import outlive_streams
from flops_fl.text import some

STOP_TIMEOUT = 10.0  # seconds in which learner processes may end by themselves
KILL_TIMEOUT = 5.0  # seconds in which they may end after SIGTERM
LAST_LINES = 10  # lines of a learner's output to show if its process has died

log = logging.getLogger(__name__)

Child: TypeAlias = tuple[Mapping[str, Any], int]
"""The options of a process, and the pipe into which it writes its error."""


class Hosts:
    """The learner processes, as their parent sees them. A context manager, which ends them."""

    def __init__(self) -> None:
        self._faults, telling = os.pipe()
        self._process = subprocess.Popen(
            [sys.executable, "-m", __package__, str(telling)],
            pass_fds=[telling],
            stdin=subprocess.PIPE,
            stdout=sys.stderr,
            process_group=0,  # Ctrl-C reaches the parent alone, which ends these processes
            # A copy: exec from the live environment fails (EFAULT) when another thread,
            # such as MLflow's import, changes it in that moment.
            env=dict(os.environ),
        )
        os.close(telling)
        self._watcher: threading.Thread | None = None
        self._started = self._stopping = False

    def start(self, options: Sequence[Mapping[str, Any]], abort: Abort) -> None:
        """Start a process for each of the LearnerOptions; one that fails ends the run.

        Besides the options, each entry has the run's ``seed``, and ``cluster_of`` if learners are
        in clusters. Entries for processes that lead clusters come first: AggregatorOptions with
        ``clusters``, which are names and numbers of learners.
        """
        assert self._process.stdin is not None
        self._started = True
        self._process.stdin.write(json.dumps(list(options)).encode() + b"\n")
        self._process.stdin.flush()
        self._watcher = threading.Thread(target=self._watch, args=(abort,), daemon=True)
        self._watcher.start()

    def _watch(self, abort: Abort) -> None:
        code = self._process.wait()
        if self._stopping:
            return
        if code == INTERRUPTED:
            abort(None)
        elif code:
            abort(read_fault(self._faults) or _failure(code))

    def _end_orphans(self) -> None:
        """End what a failed host leaves in its process group: learners and their subprocesses."""
        group, deadline = self._process.pid, time.monotonic() + KILL_TIMEOUT
        with suppress(ProcessLookupError, PermissionError):  # nobody is left
            os.killpg(group, signal.SIGTERM)
            while time.monotonic() < deadline:
                time.sleep(0.05)  # not our children, so wait(2) does not work
                os.killpg(group, 0)
            os.killpg(group, signal.SIGKILL)

    def wait(self) -> None:
        """Wait up to `STOP_TIMEOUT` for the processes to end by themselves."""
        self._stopping = True
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(STOP_TIMEOUT if self._started else 0)

    def __enter__(self) -> Hosts:
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping = True
        assert self._process.stdin is not None
        self._process.stdin.close()
        if not self._started:
            self._process.terminate()  # it may still be importing, and so not read stdin
        try:
            self._process.wait(KILL_TIMEOUT * 2)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._process.returncode:
            self._end_orphans()
        if self._watcher:
            self._watcher.join()
        os.close(self._faults)


def _failure(code: int) -> FederationError:
    if code < 0:
        return FederationError(
            f"the process that hosts the learners was killed by {signal.Signals(-code).name}: "
            "where nobody has done it, look whether the machine's memory was full"
        )
    return FederationError(
        f"the process that hosts the learners ended with exit code {code}; its error stands above"
    )


def main() -> int:
    """Run the hosting process, and each process that it forks; returns the exit code."""
    outlive_streams()
    speak()
    prepare_libraries(threads=0)  # the parent has put their number into the environment
    import_module("flops_fl.actors.learner")  # slow, so it is done before the options come

    freeze_imports()
    line = sys.stdin.buffer.readline()
    children: dict[int, Child] = {}
    aggregators: dict[str, str] = {}  # addresses of clusters, by name
    host = os.getpid()
    for values in json.loads(line or "[]"):
        reading, writing = os.pipe()
        faults, fault = os.pipe()
        child = os.fork()  # safe, since neither threads nor gRPC run yet
        if child == 0:
            end_with_parent(host)
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            os.close(reading)
            if "clusters" in values:
                work = partial(_lead_clusters, values, writing)
            else:
                os.close(writing)
                work = partial(_learn, values, aggregators)
            return run_main(partial(telling, work, fault), quiet=True)
        children[child] = values, faults
        os.close(writing)
        os.close(fault)
        with os.fdopen(reading) as pipe:  # a process without clusters closes its end at once
            aggregators |= json.loads(pipe.readline() or "{}")
    signal.signal(signal.SIGTERM, lambda *_: _end(children))
    ending = threading.Event()
    threading.Thread(target=_end_with_stdin, args=(children, ending), daemon=True).start()
    return _first_failure(children, ending, int(sys.argv[1]))


def _learn(order: Mapping[str, Any], aggregators: Mapping[str, str]) -> int:
    from flops_fl.actors.learner import Hosting, learn

    values = dict(order)
    seed, cluster_of = values.pop("seed"), values.pop("cluster_of", {})
    if not set(cluster_of.values()) <= aggregators.keys():
        return 0  # a process of clusters has failed, so the host ends the others
    addresses = {learner: Address.parse(aggregators[name]) for learner, name in cluster_of.items()}
    return learn(build(LearnerOptions, values), hosting=Hosting(seed, addresses))


def _lead_clusters(order: Mapping[str, Any], tell: int) -> int:
    """Host clusters, and write their addresses into the pipe `tell` once learners can join."""
    from flops_fl.actors.cluster import host_clusters

    def say(addresses: Mapping[str, str]) -> None:
        with os.fdopen(tell, "w") as pipe:
            pipe.write(json.dumps(addresses) + "\n")

    values = dict(order)
    seed, clusters = values.pop("seed"), values.pop("clusters")
    return host_clusters(build(AggregatorOptions, values), clusters, seed, say)


def _first_failure(children: dict[int, Child], ending: threading.Event, tell: int) -> int:
    """Wait for all children. If one fails, end the others and write its error into `tell`."""
    failure = 0
    while children:
        child, status = os.wait()
        values, faults = children.pop(child)
        code = os.waitstatus_to_exitcode(status)
        if code and not failure:
            failure = code if code > 0 else 128 - code  # 128 plus the signal's number, as in shells
            threading.Thread(target=_end_surely, args=(children,), daemon=True).start()
            if not ending.is_set() and code not in (INTERRUPTED, -signal.SIGTERM):
                write_fault(read_fault(faults) or _silent(values, code), tell)
    return failure


def _silent(values: Mapping[str, Any], code: int) -> FederationError:
    """The error for a process that wrote none; the last lines of its output are logged."""
    if code < 0:
        how = f"was killed by {signal.Signals(-code).name}"
    else:
        how = f"ended with exit code {code} and without an error: does its code call os._exit?"
    if "clusters" in values:
        return FederationError(f"a process of clusters {how}")
    folder, learners = Path(values["log_folder"]), values["learner_id"].split(",")
    names = {log_of(folder, learner): learner for learner in learners}
    present = [path for path in names if path.exists()]
    if not present:
        return FederationError(f"a process of {some(learners)} {how}")
    newest = max(present, key=lambda path: path.stat().st_mtime_ns)
    if lines := last_lines(newest, LAST_LINES):
        head = f"{names[newest]}: its last lines of output, from {newest}:"
        log.warning("%s", "\n  ".join([head, *lines]))
    return FederationError(f"{names[newest]} was at work when its process {how}")


def _end_with_stdin(children: Iterable[int], ending: threading.Event) -> None:
    """End the children when stdin closes: the parent has ended. This is not a failure."""
    while os.read(0, 1024):
        pass
    ending.set()
    _end_surely(children)


def _end_surely(children: Iterable[int]) -> None:
    """End the children with SIGTERM, then with SIGKILL, since C code may block a handler."""
    _end(children)
    time.sleep(KILL_TIMEOUT)
    _end(children, signal.SIGKILL)


def _end(children: Iterable[int], number: int = signal.SIGTERM) -> None:
    for child in list(children):
        with suppress(ProcessLookupError):  # it has ended in the meantime
            os.kill(child, number)
