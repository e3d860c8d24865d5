"""Parts that all benchmarks share: processes, measured figures, the machine, a table."""

from __future__ import annotations

import json
import os
import platform
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
TIMEOUT = 900.0  # seconds for any process of a benchmark
PACKAGES = ("flwr", "grpcio", "numpy", "ray", "mlflow-skinny", "scikit-learn")


@dataclass
class Row:
    """One row of a table: a contestant, and how long it took or how much it used."""

    who: str
    values: list[float] = field(default_factory=list)
    unit: str = "s"
    note: str = ""
    missing: str = ""

    @property
    def median(self) -> float | None:
        return statistics.median(self.values) if self.values else None


@dataclass
class Table:
    """One benchmark's rows. Ratios are to the first row, which is ours."""

    name: str
    title: str
    rows: list[Row] = field(default_factory=list)

    def add(self, who: str, work: Callable[[], Sequence[float]], **more: Any) -> Row:
        """Run one contestant. If it cannot run, its row says why."""
        row = Row(who, **more)
        self.rows.append(row)
        sys.stderr.write(f"{self.name}: {who} ...\n")
        try:
            row.values = [float(value) for value in work()]
        except Exception as error:
            last = str(error).strip().rpartition("\n")[2]
            row.missing = f"{type(error).__name__}: {last[-200:]}".replace(str(ROOT), "")
            sys.stderr.write(f"  missing: {row.missing}\n")
        return row

    def document(self) -> dict[str, Any]:
        """The table as JSON."""
        rows = [{**asdict(row), "median": row.median} for row in self.rows]
        return {"name": self.name, "title": self.title, "rows": rows}


def machine() -> dict[str, str]:
    """The machine and the versions that the figures were measured on."""
    found = {"cores": str(os.cpu_count()), "python": platform.python_version()}
    pages, size = os.sysconf("SC_PHYS_PAGES"), os.sysconf("SC_PAGE_SIZE")
    found["memory"] = f"{pages * size / 2**30:.0f} GiB"
    found["system"] = f"{platform.system()} {platform.machine()}"
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def start(module: str, *arguments: object, python: str = sys.executable, **more: Any) -> Any:
    """Start a Python module as a process. Its stdout is piped; its stderr is kept for errors."""
    log = tempfile.TemporaryFile("w+")  # noqa: SIM115 - lives as long as the process
    process = subprocess.Popen(
        [python, "-m", module, *map(str, arguments)],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=log,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", "GRPC_VERBOSITY": "NONE"} | more.pop("env", {}),
        **more,
    )
    process.log = log  # type: ignore[attr-defined]
    return process


def finish(process: Any, timeout: float = TIMEOUT) -> Any:
    """Wait for a process and return the JSON on the last line of its output.

    Raises:
        RuntimeError: the process failed. The message is the end of its stderr.
    """
    out, _ = process.communicate(timeout=timeout)
    if process.returncode:
        process.log.seek(0)
        raise RuntimeError(process.log.read()[-3000:] or f"exit code {process.returncode}")
    return json.loads(out.strip().splitlines()[-1])


@contextmanager
def together(processes: list[Any]) -> Iterator[list[Any]]:
    """A context whose processes have all ended when it is left."""
    try:
        yield processes
    finally:
        for process in processes:
            if process.poll() is None:
                process.kill()
            process.wait()
            if process.stdout:
                process.stdout.close()


def wait_for(port: int, timeout: float = 60.0) -> None:
    """Wait until a process listens on the port."""
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.02)
    raise RuntimeError(f"nobody listens on port {port} after {timeout:.0f} s")
