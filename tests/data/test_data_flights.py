"""Data of servers at a learner: the same rows, the same model, and clear errors."""

import json
import threading
from pathlib import Path

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.flight as fl
import pyarrow.parquet as pq
import pytest

from flops_fl.data import flights, store
from flops_fl.data.dataset import EagerDataset
from flops_fl.data.flights import load_flights
from flops_fl.data.folder import load_folder
from flops_fl.data.servers import FlightData
from flops_fl.errors import DataError, Refused, Unreachable, UsageError
from flops_fl.net.address import DataServer as Url
from flops_fl.net.tls import Tls
from flops_fl.options.data import DataOptions
from flops_fl.options.learner import LearnerOptions
from flops_fl.options.reading import build, parse
from flops_fl.options.use import EvaluateOptions
from tests.conftest import NUMPY
from tests.data.serving import DataServer, put, rows
from tests.trees import free_address


def source(*servers, cache=None, tls=None, wait=20.0, scheme="grpc"):
    return FlightData(
        servers=tuple(Url.parse(f"{scheme}://{getattr(s, 'address', s)}") for s in servers),
        tls=tls,
        cache=cache,
        connect_timeout=wait,
        max_backoff=0.5,
        keepalive=20.0,
    )


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pair")
    started = [DataServer(folder / name) for name in ("one", "two")]
    yield started
    for server in started:
        server.stop()


@pytest.fixture
def server(pair):
    yield pair[0]
    for path in [path for each in pair for path in each.folder.glob("*.parquet")]:
        path.unlink()


def test_rows_and_order_are_those_of_a_folder_with_the_same_files(pair, server):
    for name, number in (("b.2", 5), ("b.1", 3), ("a.9", 7), ("c.1", 9)):
        put(pair[number % 2].client(), f"{name}.parquet", rows(*range(number)))
    loaded = load_flights(source(*pair), ["b", "a"])
    assert type(loaded) is EagerDataset
    names = {path.name: path for each in pair for path in each.folder.glob("*.parquet")}
    ordered = [pq.read_table(names[f"{name}.parquet"]) for name in ("a.9", "b.1", "b.2")]
    assert loaded.data.table.equals(pa.concat_tables(ordered))
    assert loaded["x"] == [*range(7), *range(3), *range(5)]


def test_features_arrive_and_a_disagreement_names_both_flights(pair, server):
    def put_classes(where, name, classes):
        kinds = {"image": datasets.Image(), "label": datasets.ClassLabel(names=classes)}
        schema = datasets.Features(kinds).arrow_schema
        row = {"image": [{"bytes": b"png", "path": None}], "label": [1]}
        put(where.client(), name, pa.table(row, schema=schema))

    put_classes(pair[0], "pets.1.parquet", ["cat", "dog"])
    assert load_flights(source(*pair), ["pets"]).features["label"].names == ["cat", "dog"]
    put_classes(pair[1], "pets.2.parquet", ["dog", "cat"])
    said = (
        f"in pets.2.parquet at grpc://{pair[1].address} but .* in "
        f"pets.1.parquet at grpc://{pair[0].address}"
    )
    with pytest.raises(DataError, match=said):
        load_flights(source(*pair), ["pets"])


def test_a_tag_without_data_is_named(pair, server, caplog):
    put(pair[1].client(), "digits.1.parquet", rows(1))
    assert len(load_flights(source(*pair), ["digits", "digit"])) == 1
    where = f"grpc://{pair[0].address}, grpc://{pair[1].address}"
    said = f"no data at {where} have a tag among digit: the others are used"
    assert said in caplog.messages


def test_no_match_names_the_tags_asked_for_and_those_there(pair, server):
    with pytest.raises(DataError, match="with a tag among mnist at .*: the tags there are none"):
        load_flights(source(*pair), ["mnist"])
    put(pair[1].client(), "digits.1.parquet", rows(1))
    put(pair[0].client(), "b.c.1.parquet", rows(1))
    with pytest.raises(DataError, match="a tag among mnist, x at .*: the tags there are b.c, d"):
        load_flights(source(*pair), ["mnist", "x"])


def test_a_name_on_two_servers_is_refused(pair, server):
    for each in pair:
        put(each.client(), "a.1.parquet", rows(1))
    with pytest.raises(DataError, match="their rows would count twice"):
        load_flights(source(*pair), ["a"])


def test_a_server_that_is_away_is_awaited_with_a_name_and_an_end(tmp_path, caplog):
    caplog.set_level("INFO", "flops_fl")
    where = free_address()
    with pytest.raises(Unreachable, match=f"has answered at grpc://{where} for 0.5 s"):
        load_flights(source(where, wait=0.5), ["a"])
    assert f"waiting for the data server at grpc://{where}" in caplog.text

    found = []
    waiting = threading.Thread(
        target=lambda: found.append(load_flights(source(where, wait=60), ["a"]))
    )
    (tmp_path / "data").mkdir()
    pq.write_table(rows(1, 2), tmp_path / "data" / "a.1.parquet")
    waiting.start()
    late = DataServer(tmp_path / "data", "--listen", where)
    waiting.join(60)
    late.stop()
    assert [len(dataset) for dataset in found] == [2]


@pytest.mark.slow
def test_a_server_killed_during_a_get_is_read_again_when_it_is_back(server, tmp_path, monkeypatch):
    own = DataServer(tmp_path / "data")
    table = pa.table({"x": np.arange(3_000_000)})
    put(own.client(), "a.1.parquet", table, max_chunksize=500_000)
    killed, read = [], store.Store._read

    def read_and_kill(self, reader, *rest):
        if not killed:
            killed.append(reader.read_chunk())
            own.kill()
            own.start(own.port)
        return read(self, reader, *rest)

    monkeypatch.setattr(store.Store, "_read", read_and_kill)
    assert load_flights(source(own, wait=60), ["a"]).data.table.equals(table)
    own.stop()


NAME = r"a.\x1b[31m.parquet"


def test_flights_of_a_plain_server_of_pyarrow_are_loaded_too():
    """FLOps' own data server is one: it tells no version, and every listing is made anew."""

    class Plain(fl.FlightServerBase):
        def list_flights(self, context, criteria):
            assert criteria == b'{"data_tags": ["a"]}'
            descriptor = fl.FlightDescriptor.for_path(b"a.\x1b[31m.parquet")
            endpoints = [fl.FlightEndpoint(b"a.1.parquet", [])]
            yield fl.FlightInfo(rows(1).schema, descriptor, endpoints, 2, -1)

        def do_get(self, context, ticket):
            return fl.RecordBatchStream(rows(3, 4))

    with Plain("grpc://127.0.0.1:0") as plain:
        how = source(f"127.0.0.1:{plain.port}")
        assert load_flights(how, ["a"])["x"] == [3.0, 4.0]
        with how.dial(how.servers[0]) as dialled:  # its names may not command a terminal
            assert [each.name for each in flights.list_flights(dialled, ["a"])] == [NAME]


def test_tls_that_does_not_fit_is_said_in_a_sentence(server, authority, tmp_path):
    authority.sign("a", uris=["flops://learner/a"])
    authority.sign("d", uris=["flops://device/d"])
    own = DataServer(tmp_path / "data", *authority.options("server"))

    def files(name):
        pem, key = ((tmp_path / f"{name}.{end}").read_bytes() for end in ("pem", "key"))
        return Tls(certificate=pem, key=key, ca=(tmp_path / "authority.pem").read_bytes())

    tls = files("a")
    with pytest.raises(DataError, match="the tags there are none"):
        load_flights(source(own, tls=tls, scheme="grpc+tls"), ["a"])
    with pytest.raises(Refused, match="uses TLS and this client does not: give grpc\\+tls://HOST"):
        load_flights(source(own), ["a"])
    with pytest.raises(Refused, match="does not use TLS: start the data server with --tls-cert"):
        load_flights(source(server, tls=tls, scheme="grpc+tls"), ["a"])
    with pytest.raises(Refused, match="lets nobody in without a certificate"):
        load_flights(source(own, tls=Tls(ca=tls.ca), scheme="grpc+tls"), ["a"])
    pq.write_table(rows(1), tmp_path / "data" / "a.1.parquet")
    with pytest.raises(Refused, match="the role device does not allow to read data"):
        load_flights(source(own, tls=files("d"), scheme="grpc+tls"), ["a"])
    own.stop()


@pytest.mark.slow
def test_the_model_is_that_of_folders_with_the_same_rows(processes, pair, server, digits):
    """Two nodes, each its own server with two senders; gRPC and Flight share a learner's process.

    With this seed learners load their data a second time, while they are connected.
    """
    sums = []
    for number in (0, 1):
        batches = load_folder(digits / f"part-{number}").data.table.to_batches()
        table = pa.Table.from_batches(batches)
        half = len(table) // 2
        put(pair[number].client(), "digits.1.parquet", table.slice(0, half))
        put(pair[number].client(), "digits.2.parquet", table.slice(half))
    for data in (
        [digits / "part-0", digits / "part-1"],
        [f"grpc://{each.address}" for each in pair],
    ):
        leader = processes.aggregator(
            NUMPY, "--rounds", 2, "--min-clients", 2, "--fresh", "--seed", 7
        )
        learners = [
            processes.learner(NUMPY, data[n], f"l{n}", "--data-tags", "digits") for n in (0, 1)
        ]
        sums.append(processes.result(leader)["model_sha256"])
        for learner in learners:
            processes.finish(learner)
    said = processes.stderr(learners[0])
    assert said.count("data: 599 rows in 2 flights from grpc://127.0.0.1:") == 2
    assert "rror" not in said
    assert sums[0] == sums[1]


def test_options_say_what_is_wrong_with_a_server():
    learner = {"repo": ".", "aggregator": "127.0.0.1:1"}
    for given, said in (
        ("grpc://other:11027", r"give grpc\+tls://other:11027, or say --insecure"),
        ("grpc://other", "'other' is not an address, expected HOST:PORT"),
        ("grpc://127.0.0.1:1,parts", "'parts' is no data server, expected grpc://HOST:PORT or"),
    ):
        with pytest.raises(UsageError, match=said):
            build(LearnerOptions, learner | {"data": given})
    several = build(LearnerOptions, learner | {"data": "grpc://127.0.0.1:1,grpc+tls://b:2"}).data
    assert [str(server) for server in several] == ["grpc://127.0.0.1:1", "grpc+tls://b:2"]
    words = ["repo", "--aggregator", "127.0.0.1:1"]
    one = parse(LearnerOptions, "learner", "", words, {"FLOPS_DATA": "grpc://127.0.0.1:1"})
    assert [str(server) for server in one.data] == ["grpc://127.0.0.1:1"]
    assert build(LearnerOptions, learner | {"data": "parts"}).data == Path("parts").absolute()
    with pytest.raises(UsageError, match=r"--data grpc://b:1 is another machine: give grpc\+tls:"):
        build(EvaluateOptions, {"run": "runs/a", "data": "grpc://b:1"})
    told = build(EvaluateOptions, {"run": "a", "data": "grpc://127.0.0.1:1,grpc+tls://b:2"}).told()
    assert build(DataOptions, json.loads(json.dumps(told))).data == several
