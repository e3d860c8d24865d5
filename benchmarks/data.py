"""From a data server to a Dataset, beside the detour by Parquet and a file on the same disk."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.harness import ROOT, Table, free_port


def data(repeat: int, quick: bool) -> list[Table]:
    """20,000 images and 1,000,000 rows from a data server; a learner's memory with 4 GB."""
    import numpy as np
    import pyarrow as pa

    few, rounds = (50, 1) if quick else (1, 5 * repeat)
    rng = np.random.default_rng(0)
    with _served() as (server, folder):
        tables = _beside_the_detour(server, folder, _images(rng, 20_000 // few), rounds)
        columns = {f"x{n}": rng.random(1_000_000 // few, np.float32) for n in range(10)}
        tables += _beside_the_disk(server, folder, pa.table(columns), rounds)
        if not quick:  # few rows stay in memory
            tables.append(_restarted(server, folder, rng.random(20_000_000), rounds))
    if not quick:
        tables.append(_memory())
    return tables


def _beside_the_detour(server: Served, folder: Path, images: Any, rounds: int) -> list[Table]:
    _put(server, "images", images)
    contestants = {
        "flops-fl": lambda: _load(server, "images", folder),
        "by Parquet": lambda: _detour(server, "images", folder),
    }
    found = _rounds(rounds, server, contestants)
    about = f"{len(images)} images of 28 x 28, {images.nbytes / 1e6:.0f} MB"
    return [
        _filled(f"data-images{end}", f"{about}: {what} to a Dataset", found, number)
        for end, what, number in (
            ("", "seconds", 0),
            ("-cpu", "CPU seconds of server and learner", 1),
        )
    ]


def _beside_the_disk(server: Served, folder: Path, rows: Any, rounds: int) -> list[Table]:
    """All bytes are read into memory, never mapped."""
    import datasets
    import pyarrow as pa

    _put(server, "rows", rows)
    file = folder / "rows.arrow"
    with pa.OSFile(str(file), "wb") as sink, pa.ipc.new_file(sink, rows.schema) as writer:
        writer.write_table(rows)

    def from_disk() -> None:
        with pa.OSFile(str(file)) as source:
            datasets.Dataset(pa.ipc.open_file(source).read_all(), fingerprint="x")

    about = f"{len(rows)} rows of 10 numbers, {rows.nbytes / 1e6:.0f} MB"
    found = _rounds(rounds, server, {
        "flops-fl": lambda: _load(server, "rows", folder),
        "by Parquet": lambda: _detour(server, "rows", folder),
        "the Arrow file": from_disk,
    })  # fmt: skip
    cold = _rounds(
        rounds,
        server,
        {"the Arrow file": from_disk, "flops-fl": lambda: _load(server, "rows", folder)},
        before=lambda: _forget_files([file, *server.files()]),
    )
    return [
        _filled("data-rows", f"{about}, files in the page cache: seconds to a Dataset", found),
        _filled("data-rows-cpu", "the same: CPU seconds of server and learner", found, 1),
        _filled("data-rows-cold", f"{about}, all files on the disk only: seconds", cold),
    ]


def _restarted(server: Served, folder: Path, numbers: Any, rounds: int) -> Table:
    """A learner that starts again maps the file in its cache; then all numbers are read."""
    import datasets
    import pyarrow as pa

    table = pa.table({f"x{n}": part for n, part in enumerate(numbers.reshape(20, -1))})
    _put(server, "again", table)
    _load(server, "again", folder)
    (cached,) = (folder / "cache").glob("*.arrow")

    def mapped() -> Any:
        whole = pa.ipc.open_file(pa.memory_map(str(cached))).read_all()
        return datasets.Dataset(whole, fingerprint="x")

    def read(dataset: Any) -> None:
        for column in dataset.data.table.columns:
            for chunk in column.chunks:
                chunk.to_numpy().sum()

    found = _rounds(rounds, server, {
        "the same Arrow file, mapped": lambda: read(mapped()),
        "flops-fl, from its cache": lambda: read(_load(server, "again", folder)),
    })  # fmt: skip
    about = f"{len(table)} rows of 20 numbers, {table.nbytes / 1e6:.0f} MB"
    return _filled(
        "data-again", f"{about}, a learner starts again: seconds until all are read", found
    )


def _memory() -> Table:
    table = Table("data-memory", "4 GB from a data server: a learner's peak memory, MB")
    found: list[tuple[float, float]] = []

    def work() -> list[float]:
        found.append(_peak())
        return [found[0][0]]

    table.add("flops-fl", work, unit="MB")
    if found:
        table.add("with mapped pages of files", lambda: [found[0][1]], unit="MB")
    return table


def _filled(
    name: str, title: str, found: dict[str, list[tuple[float, ...]]], number: int = 0
) -> Table:
    table = Table(name, title)
    for who, values in found.items():
        table.add(who, lambda values=values: [each[number] for each in values])  # type: ignore[misc]
    return table


def _rounds(
    rounds: int,
    server: Served,
    contestants: dict[str, Callable[[], Any]],
    before: Callable[[], None] = lambda: None,
) -> dict[str, list[tuple[float, ...]]]:
    """Seconds, and CPU seconds with those of the server, of each contestant; they take turns."""
    found: dict[str, list[tuple[float, ...]]] = {who: [] for who in contestants}
    for who, work in [*contestants.items()] * (1 + rounds):
        before()
        started, used = time.monotonic(), time.process_time() + server.cpu()
        work()
        took = time.monotonic() - started
        found[who].append((took, time.process_time() + server.cpu() - used))
    return {who: values[1:] for who, values in found.items()}  # the first one also imports


def _forget_files(files: Sequence[Path]) -> None:
    """Let them be on the disk only."""
    for path in files:
        with path.open("rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def _images(rng: Any, count: int) -> Any:
    import datasets
    import numpy as np
    import pyarrow as pa

    from flops_fl.data.sources import _png_encoder

    encode = _png_encoder()
    pixels = rng.integers(0, 256, (count, 28, 28), np.uint8)
    pixels[:, :, ::2] = 0  # as well compressible as handwriting
    kinds = {"image": datasets.Image(), "label": datasets.ClassLabel(10)}
    content = {
        "image": [{"bytes": encode(image), "path": None} for image in pixels],
        "label": rng.integers(0, 10, count),
    }
    return pa.table(content, schema=datasets.Features(kinds).arrow_schema)


class Served:
    """A data server as a process."""

    def __init__(self, process: subprocess.Popen[bytes], folder: Path, port: int) -> None:
        self._process, self._folder = process, folder
        self.url = f"grpc://127.0.0.1:{port}"

    def cpu(self) -> float:
        """Seconds of CPU that it has used."""
        tasks = Path(f"/proc/{self._process.pid}/task").glob("*/schedstat")
        return sum(int(task.read_text().split()[0]) for task in tasks) / 1e9

    def files(self) -> list[Path]:
        """The files that it sends from: those that it has open have no name."""
        opened = Path(f"/proc/{self._process.pid}/fd").iterdir()
        inside = f"{self._folder.resolve()}/"
        return [*self._folder.iterdir(), *(p for p in opened if os.readlink(p).startswith(inside))]


@contextmanager
def _served() -> Iterator[tuple[Served, Path]]:
    port = free_port()
    with tempfile.TemporaryDirectory(dir=ROOT) as folder:  # /tmp may be in memory
        words = ["data", "serve", "--dir", f"{folder}/data", "--listen", f"127.0.0.1:{port}"]
        process = subprocess.Popen(
            [sys.executable, "-m", "flops_fl", *words], cwd=ROOT, stderr=subprocess.DEVNULL
        )
        try:
            yield Served(process, Path(folder) / "data", port), Path(folder)
        finally:
            process.terminate()
            process.wait()


def _put(server: Served, tag: str, rows: Any) -> None:
    import flops_fl.data

    flops_fl.data.put(rows, tag=tag, server=server.url, connect_timeout=60)


def _load(server: Served, tag: str, folder: Path) -> Any:
    return _loaded(server.url, tag, folder)


def _loaded(url: str, tag: str, folder: Path) -> Any:
    from flops_fl.data.flights import load_flights
    from flops_fl.data.servers import FlightData
    from flops_fl.net.address import DataServer

    found = FlightData(servers=(DataServer.parse(url),), tls=None, cache=folder / "cache")
    return load_flights(found, [tag])


def _detour(server: Served, tag: str, folder: Path) -> int:
    """As FLOps does it: a table in memory, a Parquet file, and what datasets makes of it."""
    import datasets
    import pyarrow as pa
    import pyarrow.parquet as pq
    from pyarrow import flight

    with tempfile.TemporaryDirectory(dir=folder) as own, flight.connect(server.url) as client:
        criteria = f'{{"data_tags": ["{tag}"]}}'.encode()
        found = client.list_flights(criteria)
        tables = [client.do_get(each.endpoints[0].ticket).read_all() for each in found]
        pq.write_table(pa.concat_tables(tables), f"{own}/data.parquet")
        return len(
            datasets.load_dataset(
                "parquet", data_files=f"{own}/data.parquet", split="train", cache_dir=own
            )
        )


def _peak() -> tuple[float, float]:
    """The peak of a process that loads 4 GB and reads each row, in MB, without and with files.

    The pages of mapped files are in memory as long as nobody else needs it.
    """
    import numpy as np
    import pyarrow as pa

    def batches() -> Iterator[Any]:
        rng = np.random.default_rng(0)
        for _ in range(400):
            yield pa.RecordBatch.from_arrays([pa.array(rng.random(1_250_000))], ["x"])

    code = (
        "import sys; from pathlib import Path; from benchmarks.data import _walk; "
        "_walk(sys.argv[1], Path(sys.argv[2]))"
    )
    with _served() as (server, folder):
        _put(server, "large", batches())
        child = subprocess.Popen([sys.executable, "-c", code, server.url, str(folder)], cwd=ROOT)
        peak = [0.0, 0.0]
        watch = threading.Thread(target=_watch, args=(child, peak))
        watch.start()
        watch.join()
        if child.returncode:
            raise RuntimeError("the data could not be read")
        return peak[0], peak[1]


def _walk(server: str, folder: Path) -> None:
    loaded = _loaded(server, "large", folder).with_format("arrow")
    for start in range(0, len(loaded), 1_000_000):
        loaded[start : start + 1_000_000]


def _watch(child: Any, peak: list[float]) -> None:
    while child.poll() is None:
        try:
            status = Path(f"/proc/{child.pid}/status").read_text()
        except OSError:
            break
        for number, field in enumerate(("RssAnon", "VmRSS")):
            found = re.search(rf"{field}:\s+(\d+) kB", status)
            peak[number] = max(peak[number], int(found.group(1)) / 1000 if found else 0.0)
        time.sleep(0.05)
    child.wait()
