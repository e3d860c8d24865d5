"""A put that was cut off goes on where it stopped, and has all of its rows in the end."""

import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import closing

import numpy as np
import pyarrow as pa
import pyarrow.flight as fl
import pyarrow.parquet as pq
import pytest

import flops_fl.data
from flops_fl.data import begun
from flops_fl.data.content import ContentHash
from flops_fl.data.shelf import Shelf
from flops_fl.errors import NoSuchFlight
from tests.conftest import ROOT, wait_until
from tests.data.serving import DataServer, get, listed

MB = 1 << 20
TABLE = pa.table({"x": np.random.default_rng(1).random(MB)})  # 8 MB
COUNT = 600_000
ASKED = b'{"data_tags": ["a"], "unfinished": true}'


def name_of(table, tag="a"):
    digest = ContentHash(table.schema)
    for batch in table.to_batches():
        digest.add(batch)
    return f"{tag}.{digest.hexdigest()}.parquet"


NAME = name_of(TABLE)


@pytest.fixture
def server(server):
    yield server
    for name in listed(server.client()):
        list(server.client().do_action(fl.Action("drop_dataset", name.encode())))
    assert server.files() == []


def cut(server, name, table, start=0):
    """A put of which the server has all of `table` when its sender vanishes."""
    mark = f"from={start}".encode()
    with server.client() as client:
        path = fl.FlightDescriptor.for_path(name, b"counted", mark)
        writer, _ = client.do_put(path, table.schema)
        writer.write_table(table, max_chunksize=100_000)
        del writer
    wait_until(lambda: unfinished(server) == [(name, start + len(table))])


def unfinished(server):
    found = [info for info in server.client().list_flights(ASKED) if not info.endpoints]
    return [(i.descriptor.path[0].decode(), i.total_records) for i in found]


def put(server, table=TABLE, **options):
    return flops_fl.data.put(table, tag="a", server=f"grpc://{server.address}", **options)


def test_a_put_goes_on_after_the_rows_that_are_there(server, caplog):
    caplog.set_level("INFO", "flops_fl")
    cut(server, NAME, TABLE.slice(0, COUNT))
    assert unfinished(server) == [(NAME, COUNT)]
    assert listed(server.client()) == listed(server.client(), "a") == []
    cut(server, NAME, TABLE.slice(COUNT, 1000), COUNT)
    assert put(server) == NAME
    assert f"{NAME}: {COUNT + 1000} rows are there already" in caplog.text
    assert server.files() == [NAME]
    assert get(server.client(), NAME) == TABLE
    assert pq.read_table(server.folder / NAME) == TABLE
    assert unfinished(server) == []


def test_other_rows_under_the_name_are_found_out_and_all_is_sent_again(server, caplog):
    caplog.set_level("INFO", "flops_fl")
    cut(server, NAME, pa.table({"x": np.zeros(COUNT)}))
    assert put(server) == NAME
    assert "does not have the rows of which its name has the hash" in caplog.text
    assert server.files() == [NAME]
    assert get(server.client(), NAME) == TABLE


def test_rows_that_are_not_there_are_said_and_nothing_is_written(server):
    cut(server, NAME, TABLE.slice(0, 10))
    kept = server.files()
    for start in (11, 5):
        schema = TABLE.schema if start == 11 else pa.schema([("y", pa.float64())])
        path = fl.FlightDescriptor.for_path(NAME, b"counted", f"from={start}".encode())
        with pytest.raises(KeyError, match=f"the first {start} rows are not there any more"):
            server.client().do_put(path, schema)[0].close()
    for mark in (b"from=", b"from=-1", b"from=" + b"9" * 30):
        with pytest.raises(pa.ArrowInvalid, match="expected from= and a number of rows"):
            server.client().do_put(fl.FlightDescriptor.for_path(NAME, mark), schema)[0].close()
    with pytest.raises(pa.ArrowInvalid, match="expected TAG.HASH.parquet"):
        server.client().do_put(fl.FlightDescriptor.for_path("a", b"from=0"), schema)[0].close()
    assert server.files() == kept
    put(server)


def test_two_senders_of_the_same_rows_at_once_leave_them_once(server):
    cut(server, NAME, TABLE.slice(0, COUNT))
    threads = [threading.Thread(target=put, args=(server,)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert server.files() == [NAME]
    assert get(server.client(), NAME) == TABLE


def test_a_plain_server_of_pyarrow_gets_all_rows():
    """FLOps' own data server is one: it knows nothing of puts that were cut off."""
    got = []

    class Plain(fl.FlightServerBase):
        def list_flights(self, context, criteria):
            return iter([])

        def do_put(self, context, descriptor, reader, writer):
            got.append((descriptor.path[0].decode(), reader.read_all()))

    with Plain("grpc://127.0.0.1:0") as plain:
        flops_fl.data.put(TABLE, tag="a", server=f"grpc://127.0.0.1:{plain.port}")
    assert got == [(NAME, TABLE)]


@pytest.fixture
def start(tmp_path):
    """Open the folder as a server does that starts."""
    return lambda quota=None: closing(Shelf(tmp_path / "data", quota))


def begin(shelf, rows, name=NAME):
    new = shelf.put(name, TABLE.schema, 0)
    new.add(TABLE.slice(0, rows).combine_chunks().to_batches()[0])
    new.leave()


def there(shelf):
    return [(flight.name, flight.rows) for flight in shelf.begun(["a"])]


def test_what_is_there_after_a_kill_is_found_up_to_its_last_whole_message(start):
    with start() as shelf:
        begin(shelf, COUNT)
        (path,) = shelf.folder.iterdir()
    os.truncate(path, path.stat().st_size - 100)
    (path.parent / f".{NAME}.0.begun").write_bytes(b"")
    (path.parent / f".{NAME}.1.begun").symlink_to("/etc/passwd")
    (path.parent / f".{NAME}.2.begun").mkdir()
    (path.parent / ".x.begun").write_bytes(path.read_bytes())
    with start() as shelf:
        ((name, rows),) = there(shelf)
        assert name == NAME
        assert COUNT - MB // 8 - 1 <= rows < COUNT
        new = shelf.put(NAME, TABLE.schema, rows)
        new.add(TABLE.slice(rows).combine_chunks().to_batches()[0])
        assert new.finish() == NAME
        assert not path.exists()
        assert pq.read_table(shelf.folder / NAME) == TABLE


def test_damage_is_found_out(start):
    table = pa.table({"x": ["é"] * 1000})
    name = name_of(table)
    with start() as shelf:
        new = shelf.put(name, table.schema, 0)
        new.add(table.to_batches()[0])
        new.leave()
        (path,) = shelf.folder.iterdir()
        path.write_bytes(path.read_bytes().replace("é".encode(), b"\xff\xff"))
        with pytest.raises(NoSuchFlight, match="are not there any more"):
            shelf.put(name, table.schema, 1000)
        assert [*shelf.folder.iterdir()] == [] == there(shelf)


def test_it_stays_for_a_day_and_so_do_the_last_of_many(start, monkeypatch):
    monkeypatch.setattr(begun, "MOST", 3)
    with start() as shelf:
        for number in range(5):
            begin(shelf, 10, f"a.{number}.parquet")
        assert sorted(there(shelf)) == [(f"a.{number}.parquet", 10) for number in (2, 3, 4)]
        for path in shelf.folder.iterdir():
            os.utime(path, (1, time.time() - begun.LIFE - (10 if ".4." in path.name else -10)))
    with start() as shelf:
        assert sorted(there(shelf)) == [(f"a.{number}.parquet", 10) for number in (2, 3)]
        assert len([*shelf.folder.iterdir()]) == 2


def test_it_gives_way_to_others_within_the_quota(start):
    with start(quota=12 * MB) as shelf:
        begin(shelf, COUNT, "a.1.parquet")
        assert there(shelf) == [("a.1.parquet", COUNT)]
        begin(shelf, len(TABLE), "a.2.parquet")
        assert there(shelf) == [("a.2.parquet", len(TABLE))]
        new = shelf.put("a.3.parquet", TABLE.schema)
        new.add(TABLE.combine_chunks().to_batches()[0])
        new.finish()
        assert there(shelf) == []


@pytest.fixture
def sender(tmp_path):
    """Start a sender as a process; its rows are large enough to be cut off in the middle."""
    table = pa.table({"x": np.random.default_rng(2).random(20 * MB)})
    pq.write_table(table, tmp_path / "big.parquet")
    started = []

    def start(server):
        words = ["put", tmp_path / "big.parquet", "--tag", "a"]
        words += ["--server", f"grpc://{server.address}", "--connect-timeout", "60"]
        started.append(
            subprocess.Popen(
                [sys.executable, "-m", "flops_fl", "data", *map(str, words)],
                cwd=ROOT, stdout=-1, stderr=-1, text=True,
            )
        )  # fmt: skip
        return started[-1]

    yield start, table
    for process in started:
        process.kill()
        process.communicate()


def arrived(server, size=16 * MB):
    """Wait until a part of a put has arrived."""
    wait_until(lambda: sum(p.stat().st_size for p in server.folder.glob("*.begun")) > size)


@pytest.mark.slow
@pytest.mark.parametrize("victim", ["server", "sender", "one of two senders"])
def test_after_a_kill_a_put_goes_on_where_it_stopped(sender, tmp_path, victim):
    start, table = sender
    server = DataServer(tmp_path / "data", log=tmp_path / "1.log")
    first = start(server)
    arrived(server)
    if victim == "server":
        server.kill()
        server.start(server.port)
        last = first
    elif victim == "sender":
        first.kill()
        last = start(server)
    else:
        first.send_signal(signal.SIGSTOP)  # or it would end before the other one has begun
        last = start(server)
        wait_until(lambda: len([*server.folder.glob("*.begun")]) == 2, 60)
        first.kill()
    out, err = last.communicate(timeout=120)
    assert last.returncode == 0, err
    assert "rows are there already, it goes on with the next one" in err
    assert server.files() == [out.strip()] == [name_of(table)]
    assert get(server.client(), out.strip()) == table
    server.stop()
