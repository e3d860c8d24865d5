"""From a data server to a Dataset, beside the detour by Parquet and a file on the same disk."""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.harness import ROOT, Table, free_port


def data(repeat: int, quick: bool) -> list[Table]:
    """20,000 images and 1,000,000 rows from a data server; a learner's memory with 4 GB."""
    import datasets
    import numpy as np
    import pyarrow as pa

    few = 50 if quick else 1
    images = Table("data-images", f"{20_000 // few} images of 28 x 28: seconds to a Dataset")
    tabular = Table("data-rows", f"{1_000_000 // few} rows of 10 numbers: seconds to a Dataset")
    with _served() as (server, folder):
        rng = np.random.default_rng(0)
        _put(server, "images", _images(rng, 20_000 // few))
        columns = {f"x{n}": rng.random(1_000_000 // few, np.float32) for n in range(10)}
        rows = pa.table(columns)
        _put(server, "rows", rows)
        images.add("flops-fl", lambda: _times(repeat, lambda: _load(server, "images", folder)))
        images.add("by Parquet", lambda: _times(repeat, lambda: _detour(server, "images", folder)))
        tabular.add("flops-fl", lambda: _times(repeat, lambda: _load(server, "rows", folder)))
        tabular.add("by Parquet", lambda: _times(repeat, lambda: _detour(server, "rows", folder)))
        file = folder / "rows.arrow"
        with pa.OSFile(str(file), "wb") as sink, pa.ipc.new_file(sink, rows.schema) as writer:
            writer.write_table(rows)

        def from_disk() -> None:
            with pa.OSFile(str(file)) as source:
                datasets.Dataset(pa.ipc.open_file(source).read_all(), fingerprint="x")

        tabular.add("the Arrow file from disk", lambda: _times(repeat, from_disk))
    memory = Table("data-memory", "4 GB from a data server: a learner's peak memory, MB")
    if not quick:
        memory.add("flops-fl", lambda: [_peak()], unit="MB")
    return [images, tabular, *([memory] if memory.rows else [])]


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


@contextmanager
def _served() -> Iterator[tuple[str, Path]]:
    port = free_port()
    with tempfile.TemporaryDirectory() as folder:
        words = ["data", "serve", "--dir", f"{folder}/data", "--listen", f"127.0.0.1:{port}"]
        server = subprocess.Popen(
            [sys.executable, "-m", "flops_fl", *words], cwd=ROOT, stderr=subprocess.DEVNULL
        )
        try:
            yield f"grpc://127.0.0.1:{port}", Path(folder)
        finally:
            server.terminate()
            server.wait()


def _put(server: str, tag: str, rows: Any) -> None:
    import flops_fl.data

    flops_fl.data.put(rows, tag=tag, server=server, connect_timeout=60)


def _load(server: str, tag: str, folder: Path) -> int:
    from flops_fl.data.flights import load_flights
    from flops_fl.data.servers import FlightData
    from flops_fl.net.address import DataServer

    found = FlightData(servers=(DataServer.parse(server),), tls=None, cache=folder / "cache")
    return len(load_flights(found, [tag]))


def _detour(server: str, tag: str, folder: Path) -> int:
    """As FLOps does it: a table in memory, a Parquet file, and what datasets makes of it."""
    import datasets
    import pyarrow as pa
    import pyarrow.parquet as pq
    from pyarrow import flight

    with tempfile.TemporaryDirectory(dir=folder) as own, flight.connect(server) as client:
        criteria = f'{{"data_tags": ["{tag}"]}}'.encode()
        found = client.list_flights(criteria)
        tables = [client.do_get(each.endpoints[0].ticket).read_all() for each in found]
        pq.write_table(pa.concat_tables(tables), f"{own}/data.parquet")
        return len(
            datasets.load_dataset(
                "parquet", data_files=f"{own}/data.parquet", split="train", cache_dir=own
            )
        )


def _times(repeat: int, work: Callable[[], Any]) -> list[float]:
    found = []
    for _ in range(1 + repeat):
        started = time.monotonic()
        work()
        found.append(time.monotonic() - started)
    return found[1:]  # the first one also imports


def _peak() -> float:
    """The peak of a process that loads 4 GB and reads each row, in MB, without mapped files."""
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
        child = subprocess.Popen([sys.executable, "-c", code, server, str(folder)], cwd=ROOT)
        peak = [0.0]
        watch = threading.Thread(target=_watch, args=(child, peak))
        watch.start()
        watch.join()
        if child.returncode:
            raise RuntimeError("the data could not be read")
        return peak[0]


def _walk(server: str, folder: Path) -> None:
    from flops_fl.data.flights import load_flights
    from flops_fl.data.servers import FlightData
    from flops_fl.net.address import DataServer

    found = FlightData(servers=(DataServer.parse(server),), tls=None, cache=folder / "cache")
    loaded = load_flights(found, ["large"])
    for start in range(0, len(loaded), 1_000_000):
        loaded.with_format("arrow")[start : start + 1_000_000]
    print(len(loaded), "rows")


def _watch(child: Any, peak: list[float]) -> None:
    while child.poll() is None:
        try:
            status = Path(f"/proc/{child.pid}/status").read_text()
        except OSError:
            break
        found = re.search(r"RssAnon:\s+(\d+) kB", status)
        peak[0] = max(peak[0], int(found.group(1)) / 1000 if found else 0.0)
        time.sleep(0.05)
    child.wait()
