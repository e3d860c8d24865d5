"""A whole federation on one machine: the same aggregator, the same learners, on loopback."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

from flops_fl.address import Address
from flops_fl.config import FederationOptions, SimulateOptions
from flops_fl.engines.aggregate import aggregate
from flops_fl.errors import FederationError, FlopsError
from flops_fl.repo.source import checkout

STOP_TIMEOUT = 10.0  # seconds for learner processes to end by themselves


def simulate(options: SimulateOptions) -> int:
    """Cut the data into parts, one for each learner, and train; the exit code.

    Raises:
        FlopsError: wrong options or data, a broken repository, a learner that cannot start.
    """
    ids = learner_ids(options.learners)
    processes = min(options.processes or os.cpu_count() or 1, len(ids))
    with checkout(options.repo) as repo, tempfile.TemporaryDirectory(prefix="flops-data-") as data:
        write_parts(options, ids, Path(data))
        hosts = _Hosts(str(repo.path), Path(data), options.threads)
        hosted = [ids[index::processes] for index in range(processes)]

        def start(address: Address, abort: Callable[[FlopsError], None]) -> None:
            hosts.start(hosted, address, abort)

        code = -1
        try:
            code = aggregate(options.for_aggregator(), on_listening=start)
        finally:
            hosts.stop(in_peace=code == 0)
        return code


def learner_ids(count: int) -> list[str]:
    """``learner-00`` and so on: as many digits as it takes to sort by number."""
    digits = len(str(count - 1))
    return [f"learner-{index:0{digits}d}" for index in range(count)]


def write_parts(options: FederationOptions, ids: Sequence[str], folder: Path) -> None:
    """Cut the data into files in `folder`, one for each learner, tagged with its id.

    Raises:
        FlopsError: no such data, or they cannot be cut that way.
    """
    from flops_fl.data.folder import load_folder
    from flops_fl.data.partition import write_partitions
    from flops_fl.data.sources import load_source

    source = Path(options.data)
    if source.is_dir():
        dataset = load_folder(source, [])
    else:
        dataset = load_source(options.data, resize=options.resize)
    write_partitions(dataset, ids, folder, scheme=options.partition, seed=options.seed)


class _Hosts:
    """The learner processes, each hosting several learners."""

    def __init__(self, repo: str, data: Path, threads: int) -> None:
        self._repo = repo
        self._data = data
        self._threads = threads
        self._running: list[subprocess.Popen[bytes]] = []
        self._stopping = False

    def start(
        self,
        hosted: Sequence[Sequence[str]],
        address: Address,
        abort: Callable[[FlopsError], None],
    ) -> None:
        """Start a process for each group of learners; one that fails ends the run."""
        for ids in hosted:
            command = [sys.executable, "-m", "learner", self._repo, "--aggregator", str(address)]
            command += ["--data", str(self._data), "--data-tags", "{id}", "--quiet"]
            command += ["--learner-id", ",".join(ids), "--threads", str(self._threads)]
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=sys.stderr,
                # A copy: exec from the live environment fails (EFAULT) when another thread,
                # such as MLflow's import, changes it in that moment.
                # The aggregator's port for metrics is not theirs, too.
                env={**os.environ, "FLOPS_METRICS": ""},
            )
            self._running.append(process)
            watch = threading.Thread(target=self._watch, args=(process, ids, abort), daemon=True)
            watch.start()

    def _watch(
        self,
        process: subprocess.Popen[bytes],
        ids: Sequence[str],
        abort: Callable[[FlopsError], None],
    ) -> None:
        code = process.wait()
        if code and not self._stopping:
            error = FederationError(
                f"the process of {', '.join(ids[:3])}{' and more' if len(ids) > 3 else ''} ended "
                f"with exit code {code}; its error stands above"
            )
            error.exit_code = code if code > 0 else FederationError.exit_code
            abort(error)

    def stop(self, *, in_peace: bool) -> None:
        """End all processes; after a good run they end by themselves."""
        self._stopping = True
        for process in self._running:
            if not (in_peace and _ends(process)):
                process.terminate()
        for process in self._running:
            if not _ends(process):
                process.kill()
                process.wait()


def _ends(process: subprocess.Popen[bytes]) -> bool:
    try:
        process.wait(STOP_TIMEOUT)
    except subprocess.TimeoutExpired:
        return False
    return True
