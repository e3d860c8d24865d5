"""Senders: what is put is there once, and a learner loads what was sent."""

import json
import time
from datetime import UTC, datetime
from decimal import Decimal

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import flops_fl.data
from flops_fl import cli
from flops_fl.data import progress
from flops_fl.data.content import hash_of
from flops_fl.data.flights import load_flights
from flops_fl.data.folder import load_folder
from flops_fl.data.sources import load_source
from flops_fl.errors import DataError, FlopsError, NoSuchFlight, Refused, Unreachable, UsageError
from tests.conftest import wait_until
from tests.data.serving import DataServer, get, listed, rows
from tests.data.test_data_flights import source
from tests.trees import free_address


@pytest.fixture
def server(server):
    yield server
    for path in server.folder.glob("*.parquet"):
        path.unlink()


@pytest.fixture
def say(server, capsys):
    """Run a command with the server's URL; gives what it prints."""

    def run(*words):
        assert cli.run(["data", *map(str, words), "--server", f"grpc://{server.address}"]) == 0
        return capsys.readouterr().out

    return run


def put(server, data, tag="a", **options):
    return flops_fl.data.put(data, tag=tag, server=f"grpc://{server.address}", **options)


@pytest.mark.slow
def test_a_dataset_is_put_listed_shown_and_dropped(server, say, tmp_path):
    name = say("put", "digits", "--tag", "digits").strip()
    assert say("put", "digits", "--tag", "digits") == f"{name}: there already\n"
    assert listed(server.client(), "digits") == [name]
    assert say("ls").split() == ["1797", "rows", "0.13", "MB", name]
    assert say("ls", "--tag", "other") == ""
    (flight,) = json.loads(say("ls", "--tag", "digits", "--json"))["flights"]
    assert (flight["name"], flight["rows"]) == (name, 1797)
    shown = say("show", "digits")
    assert shown.startswith(f"1797 rows in {name}\n  image: Image(")
    assert f"  3 {'#' * 40} 183\n" in shown
    assert f"hash of these rows: {hash_of(load_folder(server.folder))}\n" in shown
    picture = tmp_path / "labels.png"
    said = json.loads(say("show", name, "--json", "--picture", picture))
    assert said["labels"]["0"] == 178
    assert picture.read_bytes()[:4] == b"\x89PNG"
    ours, theirs = load_source("digits"), load_flights(source(server), ["digits"])
    assert theirs.features == ours.features
    assert theirs[5]["image"].tobytes() == ours[5]["image"].tobytes()
    assert theirs["label"] == ours["label"]
    assert say("rm", "digits") == f"{name}: dropped\n"
    assert listed(server.client()) == []
    with pytest.raises(NoSuchFlight, match="have the name or tag digits: there is nothing"):
        say("rm", "digits")


def test_the_same_rows_get_the_same_name_in_whatever_form_they_come(server, say, tmp_path):
    table = rows(*range(5000))
    pq.write_table(table, tmp_path / "file.parquet", row_group_size=77)
    names = {
        put(server, table),
        put(server, pa.concat_tables([table.slice(0, 10), table.slice(10)])),
        put(server, iter(table.to_batches(max_chunksize=123))),
        put(server, [table]),
        say("put", tmp_path / "file.parquet", "--tag", "a").removesuffix(": there already\n"),
    }
    assert listed(server.client()) == [*names]
    assert get(server.client(), *names) == table
    put(server, rows(*range(4999)))
    assert len(listed(server.client())) == 2


def test_text_nulls_lists_categories_and_features_arrive(server):
    kinds = {"words": [datasets.Value("string")], "label": datasets.ClassLabel(names=["no", "yes"])}
    contents = {"words": [["a", None], [], None, ["ü" * 99]], "label": [0, 1, 1, None]}
    dataset = datasets.Dataset.from_dict(contents, features=datasets.Features(kinds))
    put(server, dataset)
    assert load_flights(source(server), ["a"]).features == dataset.features
    assert load_flights(source(server), ["a"])[:] == dataset[:] == contents
    category = pa.table({"x": pa.array(["p", "q", "p"]).dictionary_encode()})
    put(server, category, tag="b")
    assert load_flights(source(server), ["b"])["x"] == ["p", "q", "p"]


VALUE = datasets.Value
KINDS = {
    "text": VALUE("string"),
    "long": VALUE("large_string"),
    "raw": VALUE("binary"),
    "image": datasets.Image(),
    "label": datasets.ClassLabel(names=["no", "yes"]),
    "number": VALUE("float32"),
    "half": VALUE("float16"),
    "flag": VALUE("bool"),
    "price": VALUE("decimal128(7, 2)"),
    "time": VALUE("timestamp[us, tz=UTC]"),
    "words": datasets.List(VALUE("string")),
    "pair": datasets.List(VALUE("int8"), length=2),
    "nested": datasets.List({"at": VALUE("int64"), "tags": datasets.List(VALUE("string"))}),
    "plane": datasets.Array2D((2, 3), "uint8"),
}
FULL = {
    "text": "grün", "long": "x" * 5000, "raw": b"\0\xff", "image": np.eye(4, dtype=np.uint8) * 200,
    "label": 1, "number": 0.5, "half": 1.5, "flag": False, "price": Decimal("12.50"),
    "time": datetime(2026, 2, 28, 12, tzinfo=UTC), "words": ["a", None, ""], "pair": [1, -2],
    "nested": [{"at": 3, "tags": []}, {"at": None, "tags": ["b"]}], "plane": [[1, 2, 3], [4, 5, 6]],
}  # fmt: skip


@pytest.mark.parametrize("way", ["dataset", "stream", "file"])
def test_every_kind_of_feature_and_nulls_arrive_as_from_a_folder(server, say, tmp_path, way):
    nothing = {name: [] if name in ("words", "nested") else None for name in KINDS}
    nothing["plane"] = FULL["plane"]  # datasets reads no null there
    nothing["pair"] = [None, None]
    contents = [FULL, nothing, FULL | {"words": None, "text": ""}] * 3
    dataset = datasets.Dataset.from_list(contents, features=datasets.Features(KINDS))
    dataset.to_parquet(tmp_path / "f.1.parquet")
    ours = load_folder(tmp_path, ["f"])
    if way == "file":
        say("put", tmp_path / "f.1.parquet", "--tag", "f")
    elif way == "dataset":
        put(server, ours.select(range(9)), tag="f")
    else:
        put(server, iter(ours.data.table.to_batches(max_chunksize=2)), tag="f")
    theirs = load_flights(source(server), ["f"])
    assert theirs.features == datasets.Features(KINDS)
    assert theirs.data.table.to_pylist() == ours.data.table.to_pylist()
    assert hash_of(theirs) == hash_of(ours)
    assert np.asarray(theirs[0]["image"]).tolist() == FULL["image"].tolist()
    assert (theirs[1]["image"], theirs[2]["words"], theirs[0]["words"]) == (
        None,
        None,
        FULL["words"],
    )


PAIR = pa.list_(pa.int8(), 2)


@pytest.mark.parametrize(
    ("values", "kind", "good"),
    [
        ([[1, None], [None, None]], PAIR, True),
        ([[[1, 2]], None, []], pa.list_(PAIR), True),
        ([[[1], None]], pa.list_(pa.list_(pa.int8()), 2), True),
        ([[1, 2], None], PAIR, False),
        ([[[1, 2], None]], pa.list_(PAIR), False),
        ([{"q": [1, 2]}, None], pa.struct([("q", PAIR)]), False),
        ([{"q": None}], pa.struct([("q", PAIR)]), False),
    ],
)
def test_what_is_accepted_can_be_read_again_from_its_file(server, values, kind, good):
    table = pa.table({"x": pa.array(values, kind)})
    if good:
        name = put(server, table)
        assert pq.read_table(server.folder / name) == table
        return
    with pytest.raises(DataError, match="nulls in place of lists of a fixed size, which cannot"):
        put(server, table)
    assert server.files() == []


def test_batches_that_come_slowly_are_sent_as_they_come(server):
    def sensor():
        for number in range(3):
            yield rows(number).to_batches()[0]
            wait_until(lambda: [name for name in server.files() if name.endswith(".part")])

    name = put(server, sensor())
    assert get(server.client(), name)["x"].to_pylist() == [0.0, 1.0, 2.0]


def test_a_put_shows_how_far_it_is(server, caplog, monkeypatch):
    caplog.set_level("INFO", "flops_fl")
    monkeypatch.setattr(progress, "EVERY", 0.0)
    put(server, rows(*range(1000)))
    lines = [record.getMessage() for record in caplog.records]
    assert lines[-2:] == ["reading: 16 KB", "sending: 16 KB of 16 KB"]


def test_what_is_there_is_shown_in_few_words(server, say):
    for number in range(5):
        put(server, pa.table({"y": [number]}), tag=f"part.{number}")
    said = say("show", "part")
    assert said.startswith("5 rows in part.0.")
    assert " and 2 more\n" in said
    assert "no values of a column 'label' to count: --label names another\n" in said
    with pytest.raises(NoSuchFlight, match=r"tag x: the tags there are part\.0, .*, part\.4$"):
        say("show", "x")


def test_a_source_that_breaks_leaves_nothing(server):
    def broken():
        yield rows(1).to_batches()[0]
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        put(server, broken())
    wait_until(lambda: "cut off after 1 rows" in server.said())
    assert server.files() == []
    with pytest.raises(DataError, match="all batches of a put need the same columns"):
        put(server, [rows(1), pa.table({"y": [1]})])
    for nothing in ([], 5, "text", [5]):
        with pytest.raises(DataError, match="expected|no batch to put"):
            put(server, nothing)
    with pytest.raises(DataError, match="has the type month_interval|features|type"):
        put(
            server,
            pa.table({"x": pa.array([1], pa.uint8()).cast(pa.uint8())}).append_column(
                "m", pa.array([pa.MonthDayNano([1, 2, 3])])
            ),
        )
    with pytest.raises(UsageError, match="is no data server, expected grpc://HOST:PORT"):
        flops_fl.data.put(rows(1), tag="a", server="localhost:11027")
    with pytest.raises(UsageError, match=r"tag '\.\./a'"):
        put(server, rows(1), tag="../a")
    assert server.files() == []


def test_nobody_there_is_said_after_the_time_given(server):
    where = free_address()
    began = time.monotonic()
    with pytest.raises(Unreachable, match=f"no data server has answered at grpc://{where} for 0.3"):
        flops_fl.data.put(rows(1), tag="a", server=f"grpc://{where}", connect_timeout=0.3)
    assert time.monotonic() - began < 30


@pytest.mark.slow
def test_a_device_puts_with_its_certificate_and_a_learner_may_not(authority, tmp_path):
    for role in ("device", "learner"):
        authority.sign(role, uris=[f"flops://{role}/{role}"])
    own = DataServer(tmp_path / "data", *authority.options("server"))

    def files(name):
        return {"tls_cert": tmp_path / f"{name}.pem", "tls_key": tmp_path / f"{name}.key"} | {
            "tls_ca": tmp_path / "authority.pem"
        }

    where = f"grpc+tls://{own.address}"
    name = flops_fl.data.put(rows(1), tag="a", server=where, **files("device"))
    assert own.files() == [name]
    with pytest.raises(Refused, match="the role learner does not allow to write data"):
        flops_fl.data.put(rows(2), tag="a", server=where, **files("learner"))
    own.stop()


@pytest.mark.slow
def test_partitions_are_put_under_a_tag_each(server, say, tmp_path):
    said = say("partition", "digits", "--parts", 3, "--tag", "digits", "--seed", 5).split()
    assert [name.rpartition(".")[0].rpartition(".")[0] for name in said] == [
        f"digits.{number}" for number in range(3)
    ]
    local = ["--parts", "3", "--tag", "digits", "--seed", "5", "--out", str(tmp_path)]
    assert cli.run(["data", "partition", "digits", *local]) == 0
    for number in range(3):
        ours = load_folder(tmp_path / f"part-{number}")
        theirs = load_flights(source(server), [f"digits.{number}"])
        assert theirs.data.table.equals(ours.data.table.cast(theirs.data.table.schema))
    assert len(load_flights(source(server), ["digits"])) == 1797
    for wrong in ([], ["--out", str(tmp_path), "--server", "grpc://127.0.0.1:1"]):
        with pytest.raises(FlopsError, match="give one of --out and --server"):
            cli.run(["data", "partition", "digits", "--parts", "2", "--tag", "d", *wrong])
