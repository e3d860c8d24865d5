"""The data server as a process: what devices and learners of FLOps do, and what intruders try."""

import os
import threading

import datasets
import grpc
import numpy as np
import pyarrow as pa
import pyarrow.flight as fl
import pyarrow.parquet as pq
import pytest

from flops_fl.data.folder import load_folder
from flops_fl.wire.flight.messages import SERVICE, encode
from tests.conftest import wait_until
from tests.data.serving import DataServer, drop, get, listed, put, rows

MB = 1 << 20


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """One server for the tests that leave it as it was, but for files of their own."""
    folder = tmp_path_factory.mktemp("shared")
    (folder / "outside.secret.parquet").write_bytes(b"")
    pq.write_table(rows(1), folder / "outside.secret.parquet")
    (folder / "data").mkdir()
    (folder / "data" / "link.secret.parquet").symlink_to(folder / "outside.secret.parquet")
    started = DataServer(folder / "data", "--quota", "64MiB", "--max-message", "8MiB")
    yield started
    started.stop()


@pytest.fixture
def client(shared):
    with shared.client() as connected:
        yield connected


def test_a_client_that_has_only_pyarrow_and_the_facts_puts_lists_gets_and_drops(client):
    table = rows(*range(1000))
    put(client, "facts.0a1b2c3d.parquet", table, max_chunksize=64)
    put(client, "facts-too.99.parquet", rows(1))
    assert listed(client, "facts") == ["facts.0a1b2c3d.parquet"]
    (found,) = client.list_flights(b'{"data_tags": ["facts", "no such tag"]}')
    assert (found.total_records, found.schema) == (1000, table.schema)
    assert found.endpoints[0].ticket.ticket == b"facts.0a1b2c3d.parquet"
    assert client.do_get(found.endpoints[0].ticket).read_all() == table
    assert client.get_flight_info(found.descriptor).total_bytes == found.total_bytes > 0
    assert client.get_schema(found.descriptor).schema == table.schema
    assert [action.type for action in client.list_actions()] == ["drop_dataset"]
    drop(client, "facts.0a1b2c3d.parquet")
    drop(client, "facts-too.99.parquet")
    assert listed(client, "facts", "facts-too") == []
    with pytest.raises(KeyError, match="no facts.0a1b2c3d.parquet: list_flights"):
        get(client, "facts.0a1b2c3d.parquet")


def test_what_was_put_is_a_file_that_a_learner_loads_as_local_data(shared, client):
    image, label = datasets.Image(), datasets.ClassLabel(names=["cat", "dog"])
    features = datasets.Features(
        {"image": image, "label": label, "words": [datasets.Value("string")]}
    )
    contents = {
        "image": [{"bytes": b"png%d" % n, "path": None} for n in range(50)],
        "label": [n % 2 for n in range(50)],
        "words": [None if n % 7 == 0 else ["a"] * (n % 5) for n in range(50)],
    }
    table = pa.table(contents, schema=features.arrow_schema)
    put(client, "kinds.1.parquet", table, max_chunksize=7)
    assert get(client, "kinds.1.parquet").schema.equals(table.schema, check_metadata=True)
    loaded = load_folder(shared.folder, ["kinds"])
    assert loaded.features == features
    assert loaded.data.table.equals(table)


def test_a_tag_alone_is_named_by_the_content_however_it_is_cut(client):
    names = set()
    for size in (3, 1000):
        descriptor = fl.FlightDescriptor.for_path("tagged")
        writer, reader = client.do_put(descriptor, rows(0).schema)
        writer.write_table(rows(*range(100)), max_chunksize=size)
        writer.done_writing()
        names.add(reader.read().to_pybytes().decode())
        writer.close()
    assert listed(client, "tagged") == [*names]


OUTSIDE = [
    "../outside.secret.parquet", "data/../../outside.secret.parquet", "/etc/passwd.1.parquet",
    "outside.secret.parquet/../x.1.parquet", "a\0b.1.parquet", "..\\x.1.parquet", ".hid.1.parquet",
    "", ".", "..", "a.parquet", "a..parquet", "line\nbreak.1.parquet", f"{'a' * 300}.1.parquet",
    "link.secret.parquet", "\u202ea.1.parquet", ".flight.1.parquet.part",
]  # fmt: skip


@pytest.mark.parametrize("name", OUTSIDE, ids=ascii)
def test_no_name_reaches_anything_outside_of_the_folder(shared, client, name):
    before = shared.files(), (shared.folder.parent / "outside.secret.parquet").read_bytes()
    with pytest.raises((pa.ArrowInvalid, KeyError), match="expected|there is no"):
        get(client, name)
    with pytest.raises((pa.ArrowInvalid, KeyError), match="expected|there is no"):
        drop(client, name)
    with pytest.raises(KeyError if name.startswith("link") else pa.ArrowInvalid):
        client.get_flight_info(fl.FlightDescriptor.for_path(name))
    if name != "link.secret.parquet":  # a put replaces the link itself: see the next test
        with pytest.raises(pa.ArrowInvalid, match="expected"):
            put(client, name, rows(1))
    assert "link.secret.parquet" not in listed(client)
    after = shared.files(), (shared.folder.parent / "outside.secret.parquet").read_bytes()
    assert after == before


def test_a_put_replaces_a_link_and_not_what_it_points_to(shared, client):
    before = (shared.folder.parent / "outside.secret.parquet").read_bytes()
    (shared.folder / "other.secret.parquet").symlink_to("../outside.secret.parquet")
    put(client, "other.secret.parquet", rows(5))
    assert (shared.folder.parent / "outside.secret.parquet").read_bytes() == before
    assert get(client, "other.secret.parquet") == rows(5)
    assert "not served are link.secret.parquet" in shared.said()


def stream(client, name, schema, *batches):
    writer, _ = client.do_put(fl.FlightDescriptor.for_path(name), schema)
    for batch in batches:
        writer.write_batch(batch)
    writer.close()


def deep(levels):
    kind = pa.int8()
    for _ in range(levels):
        kind = pa.list_(kind)
    return pa.schema([("x", kind)])


BOMBS = {
    "100,000 columns": (pa.schema([(f"c{n}", pa.int8()) for n in range(100_000)]), "schema has"),
    "20,000 columns": (pa.schema([(f"c{n}", pa.int8()) for n in range(20_000)]), "20000 columns"),
    "1,000 deep": (deep(1000), "nested too deep"),
    "50 deep": (deep(50), "nested deeper than 32"),
    "nulls in lists": (pa.schema([("x", pa.list_(pa.null()))]), "give it a type"),
    "empty structs": (pa.schema([("x", pa.list_(pa.struct([])))]), "which is not accepted"),
    "lists of length 0": (pa.schema([("x", pa.list_(pa.int8(), 0))]), "which is not accepted"),
    "runs": (pa.schema([("x", pa.run_end_encoded(pa.int32(), pa.int8()))]), "which is not accept"),
    "decimals": (pa.schema([("x", pa.decimal128(5, -2))]), "which is not accepted"),
    "dictionaries": (pa.schema([("x", pa.dictionary(pa.int8(), pa.string()))]), "not accepted"),
    "one name twice": (pa.schema([("x", pa.int8()), ("x", pa.int8())]), "and none twice"),
    "no column": (pa.schema([]), "at least one column"),
    "a big schema": (pa.schema([("x", pa.int8())], {"k": "v" * (5 * MB)}), "schema has"),
    "broken features": (pa.schema([("x", pa.int8())], {"huggingface": "{"}), "huggingface"),
}


@pytest.mark.parametrize("kind", BOMBS)
def test_a_schema_that_no_learner_can_use_is_refused_and_leaves_nothing(shared, client, kind):
    schema, said = BOMBS[kind]
    before = shared.files()
    with pytest.raises((pa.ArrowException, ValueError), match=said):
        stream(client, "bomb.1.parquet", schema)
    assert shared.files() == before
    assert shared.memory() < 500 * MB


def test_batches_that_are_damaged_or_expand_are_refused_and_leave_nothing(shared, client):
    before = shared.files()
    zeros = pa.table({"x": np.zeros(4 * MB, np.int64)})
    options = fl.FlightCallOptions(write_options=pa.ipc.IpcWriteOptions(compression="zstd"))
    writer, _ = client.do_put(fl.FlightDescriptor.for_path("zip.1.parquet"), zeros.schema, options)
    writer.write_table(zeros)
    with pytest.raises(pa.ArrowInvalid, match="compressed: send it without compression"):
        writer.close()
    batch = pa.RecordBatch.from_pydict({"x": ["one", "two", "three"]})
    damaged = batch.serialize().to_pybytes().replace(b"\3\0\0\0\6\0\0\0", b"\3\0\0\1\6\0\0\0")
    assert damaged != batch.serialize().to_pybytes()
    descriptor = fl.FlightDescriptor.for_path("beyond.1.parquet").serialize()
    first = b"\x0a" + bytes([len(descriptor)]) + descriptor + encode(batch.schema.serialize())
    with grpc.insecure_channel(shared.address) as channel:
        answer = channel.stream_stream(f"/{SERVICE}/DoPut")(iter([first, encode(damaged)]))
        with pytest.raises(grpc.RpcError, match="damaged batch"):
            list(answer)
        garbage = channel.stream_stream(f"/{SERVICE}/DoPut")(iter([first, b"\x12\xff\xff"]))
        with pytest.raises(grpc.RpcError, match="INVALID_ARGUMENT"):
            list(garbage)
    times = pa.RecordBatch.from_arrays([pa.array([1 << 62], pa.timestamp("s"))], ["t"])
    with pytest.raises(pa.ArrowInvalid, match="cannot be kept as Parquet: .*timestamp"):
        stream(client, "times.1.parquet", times.schema, times)
    nulls = pa.RecordBatch.from_arrays([pa.nulls(1 << 28)], ["x"])
    with pytest.raises(pa.ArrowInvalid, match="'x' has only nulls and no type.*: give it a type"):
        stream(client, "nulls.1.parquet", nulls.schema, nulls)
    with pytest.raises(pa.ArrowInvalid, match="has no rows"):
        stream(client, "empty.1.parquet", times.schema)
    big = pa.RecordBatch.from_arrays([pa.array(np.zeros(2 * MB))], ["x"])
    with pytest.raises(pa.ArrowException, match="larger than max"):
        stream(client, "big.1.parquet", big.schema, big)
    assert shared.files() == before
    assert shared.memory() < 500 * MB


def test_over_the_quota_nothing_is_kept_and_the_rest_is_served(shared, client):
    before = shared.files()
    batch = pa.RecordBatch.from_arrays([pa.array(np.random.default_rng(1).random(MB // 2))], ["x"])
    with pytest.raises(pa.ArrowInvalid, match="quota of 67108864 bytes is reached"):
        stream(client, "much.1.parquet", batch.schema, *[batch] * 20)
    assert shared.files() == before
    put(client, "little.1.parquet", rows(1))
    drop(client, "little.1.parquet")


def test_a_counted_put_that_its_client_gives_up_leaves_nothing(shared, client):
    """Of a stream that was given up pyarrow makes one that has ended."""
    before = shared.files()
    writer, _ = client.do_put(
        fl.FlightDescriptor.for_path("cut.1.parquet", "counted"), rows(1).schema
    )
    writer.write_table(rows(*range(100)))
    del writer
    wait_until(lambda: "cut off after 100 rows" in shared.said())
    assert shared.files() == before


def test_unknown_methods_and_messages_are_refused_clearly(client):
    with pytest.raises(NotImplementedError, match="no action 'format_disk': there is drop_data"):
        list(client.do_action(fl.Action("format_disk", b"")))
    for criteria in (b"{", b"[]", b'{"data_tags": "a"}', b'{"data_tags": [1]}', b"[" * 100_000):
        with pytest.raises(pa.ArrowInvalid, match="expected JSON such as"):
            list(client.list_flights(criteria))
    with pytest.raises(pa.ArrowInvalid, match="expected a descriptor with a path"):
        client.get_flight_info(fl.FlightDescriptor.for_command(b"SELECT"))
    with pytest.raises(NotImplementedError):  # at once, or when the stream ends
        client.do_exchange(fl.FlightDescriptor.for_path("a.1.parquet"))[0].close()


def test_two_puts_of_one_name_at_once_leave_one_whole_file(shared):
    tables = [pa.table({"x": np.full(200_000, n, np.int64)}) for n in range(4)]

    def send(table):
        with shared.client() as own:
            put(own, "both.1.parquet", table, max_chunksize=10_000)

    threads = [threading.Thread(target=send, args=(table,)) for table in tables]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with shared.client() as client:
        assert get(client, "both.1.parquet") in tables
        drop(client, "both.1.parquet")
    assert not [name for name in shared.files() if name.endswith(".part")]


def test_a_reader_reads_on_what_is_dropped_and_replaced_meanwhile(client):
    table = pa.table({"x": np.arange(2_000_000)})
    put(client, "gone.1.parquet", table, max_chunksize=100_000)
    reader = client.do_get(fl.Ticket("gone.1.parquet"))
    first = reader.read_chunk().data
    drop(client, "gone.1.parquet")
    put(client, "gone.1.parquet", rows(1))
    assert pa.concat_tables([pa.Table.from_batches([first]), reader.read_all()]) == table


def test_a_damaged_file_is_named_in_the_log_and_the_others_are_served(shared, client):
    (shared.folder / "damaged.1.parquet").write_bytes(b"PAR1 and so on")
    os.mkfifo(shared.folder / "fifo.1.parquet")
    put(client, "whole.1.parquet", rows(1))
    assert "whole.1.parquet" in listed(client)
    assert not listed(client, "damaged", "fifo")
    with pytest.raises(pa.ArrowInvalid, match="damaged.1.parquet cannot be read as Parquet"):
        get(client, "damaged.1.parquet")
    with pytest.raises(KeyError):
        get(client, "fifo.1.parquet")
    assert "not served. damaged.1.parquet cannot be read" in shared.said()
