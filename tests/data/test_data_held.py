"""Data that change while a learner trains: loaded again, known by a hash, never taken in part."""

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from flops_fl.data import held as held_
from flops_fl.data.content import hash_of
from flops_fl.data.dataset import wrap
from flops_fl.data.folder import load_folder
from flops_fl.data.held import HeldData
from flops_fl.data.local import DataPlace
from flops_fl.errors import DataError, Refused
from tests.data.serving import DataServer, drop, put, rows
from tests.data.test_data_flights import source


class Code:
    """User code that keeps what it gets in `set_model_data`."""

    def __init__(self, place, tags=("a",), refreshes=True):
        self.held = HeldData(DataPlace(place, tags, "l1"), "l1", refreshes=refreshes)
        self.times = 0
        self.attach()

    def attach(self):
        self.times += 1
        self.data = self.held.load()

    def refreshed(self):
        """The rows after a refresh."""
        self.held.refresh(self.attach)
        return self.data["x"]


@pytest.fixture(params=["folder", "server"])
def shelf(request, tmp_path):
    """A place of data, how to put a file there, and how to remove it."""
    if request.param == "folder":
        folder = tmp_path / "local"
        folder.mkdir()
        write = lambda name, table: pq.write_table(table, folder / name)  # noqa: E731
        yield folder, write, lambda name: (folder / name).unlink()
        return
    own = request.getfixturevalue("server")
    client = own.client()
    yield (
        source(own, wait=2), lambda name, table: put(client, name, table),
        lambda name: drop(client, name),
    )  # fmt: skip
    for path in own.folder.glob("*.parquet"):
        path.unlink()


def test_new_data_are_taken_before_a_fit_and_known_by_their_hash(shelf, caplog):
    place, write, remove = shelf
    caplog.set_level("INFO", "flops_fl.data.held")
    write("a.1.parquet", rows(1, 2))
    code = Code(place)
    first = code.held.hash
    assert code.refreshed() == [1, 2]
    assert code.times == 1  # nothing was new
    write("b.1.parquet", rows(7))
    assert code.refreshed() == [1, 2]  # of another tag
    write("a.2.parquet", rows(3))
    assert code.refreshed() == [1, 2, 3]
    assert code.held.hash not in ("", first)
    assert caplog.messages == [f"[l1] new data {code.held.hash}: 3 rows; new: a.2.parquet"]
    remove("a.2.parquet")
    assert code.refreshed() == [1, 2]
    assert (code.times, code.held.hash) == (3, first)
    assert caplog.messages[1:] == [f"[l1] new data {first}: 2 rows; gone: a.2.parquet"]


def test_the_same_rows_in_another_file_are_no_change(shelf):
    place, write, _ = shelf
    write("a.1.parquet", rows(1, 2, 3))
    code = Code(place)
    write("a.1.parquet", rows(1))
    write("a.2.parquet", rows(2, 3))
    assert code.refreshed() == [1, 2, 3]
    assert code.times == 1
    write("a.2.parquet", rows(2, 4))
    assert code.refreshed() == [1, 2, 4]


def test_never_means_never(shelf):
    place, write, _ = shelf
    write("a.1.parquet", rows(1))
    code = Code(place, refreshes=False)
    write("a.2.parquet", rows(2))
    assert code.refreshed() == [1]


def test_data_that_are_gone_or_of_other_columns_fail_the_fit_until_they_are_mended(shelf):
    place, write, remove = shelf
    write("a.1.parquet", rows(1, 2))
    code = Code(place)
    remove("a.1.parquet")
    write("b.1.parquet", rows(9))
    for _ in range(2):
        with pytest.raises(DataError, match="a tag among '?a'?[: ].*the tags there are '?b"):
            code.refreshed()
    write("a.1.parquet", pa.table({"x": ["one", "two"]}))
    with pytest.raises(DataError, match="column 'x' is .* in the data now but .* at the start"):
        code.refreshed()
    assert code.times == 1
    write("a.1.parquet", rows(1, 2, 3))
    assert code.refreshed() == [1, 2, 3]


def test_code_that_fails_on_new_data_gets_them_again(shelf):
    place, write, _ = shelf
    write("a.1.parquet", rows(1))
    code = Code(place)

    def broken():
        code.attach()
        raise DataError("half of it is taken")

    write("a.2.parquet", rows(2))
    for _ in range(2):
        with pytest.raises(DataError, match="half of it"):
            code.held.refresh(broken)
    assert code.times == 3
    assert code.refreshed() == [1, 2]
    assert code.times == 4


def test_code_that_does_not_ask_for_new_data_is_told_and_keeps_its_hash(shelf, caplog):
    place, write, _ = shelf
    write("a.1.parquet", rows(1))
    code = Code(place)
    before = code.held.hash
    write("a.2.parquet", rows(2))
    for _ in range(2):
        code.held.refresh(lambda: None)
    assert caplog.text.count("set_model_data() has not called load_dataset()") == 1
    assert code.held.hash == before


@pytest.mark.slow  # two starts of a server
def test_while_a_server_is_away_a_fit_takes_what_it_has(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(held_, "WAIT", 0.3)
    own = DataServer(tmp_path / "data")
    put(own.client(), "a.1.parquet", rows(1))
    code = Code(source(own, wait=20))
    own.kill()
    for _ in range(3):
        assert code.refreshed() == [1]
    said = f"no data server has answered at grpc://{own.address} for 0.3 s"
    assert [line for line in caplog.messages if said in line] == [caplog.messages[-1]]
    assert "It trains on the data that it has" in caplog.text
    pq.write_table(rows(2), own.folder / "a.2.parquet")
    own.start(own.port)
    assert code.refreshed() == [1, 2]
    own.stop()


@pytest.mark.slow  # two starts of a server
def test_a_server_that_lets_the_learner_in_no_more_fails_the_fit(authority, tmp_path):
    own = DataServer(tmp_path / "data")
    put(own.client(), "a.1.parquet", rows(1))
    code = Code(source(own, wait=20))
    own.stop()
    own.options = authority.options("server")
    own.start(own.port)
    for _ in range(2):
        with pytest.raises(Refused, match="uses TLS and this client does not"):
            code.refreshed()
    own.stop()


def test_the_hash_is_of_the_rows_wherever_they_are(server, tmp_path):
    kinds = {"x": datasets.Value("float64"), "label": datasets.ClassLabel(names=["no", "yes"])}
    table = rows(*range(100)).cast(datasets.Features(kinds).arrow_schema)
    pq.write_table(table, tmp_path / "whole.parquet")
    put(server.client(), "h.1.parquet", table.slice(0, 30), max_chunksize=7)
    put(server.client(), "h.2.parquet", table.slice(30))
    there = HeldData(DataPlace(source(server), ["h"], ""), "")
    there.load()
    assert there.hash == hash_of(load_folder(tmp_path))
    for other in (table.slice(1), table.take([1, 0, *range(2, 100)])):
        assert hash_of(wrap(datasets.Dataset(other))) != there.hash
    kinds["label"] = datasets.ClassLabel(names=["yes", "no"])
    renamed = table.cast(datasets.Features(kinds).arrow_schema)
    assert hash_of(wrap(datasets.Dataset(renamed))) != there.hash
