"""A learner's tables: large ones in files of its cache, and its patience while it reads."""

import resource
import time
from contextlib import nullcontext

import numpy as np
import pyarrow as pa
import pyarrow.flight as fl
import pytest

from flops_fl.data import store
from flops_fl.data.flights import load_flights
from flops_fl.errors import DataError, Unreachable
from tests.data.serving import put
from tests.data.test_data_flights import source
from tests.trees import free_address


def test_large_data_are_mapped_and_found_again(server, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(store, "IN_MEMORY", 1 << 20)
    table = pa.table({"x": np.arange(1_000_000)})
    put(server.client(), "big.1.parquet", table, max_chunksize=100_000)
    put(server.client(), "small.1.parquet", pa.table({"x": np.arange(10)}))
    caplog.set_level("INFO", "flops_fl")
    before = pa.total_allocated_bytes()
    first = load_flights(source(server, cache=tmp_path), ["big", "small"])
    assert pa.total_allocated_bytes() - before < table.nbytes / 2
    assert "big.1.parquet: from" not in caplog.text
    again = load_flights(source(server, cache=tmp_path), ["big", "small"])
    assert "big.1.parquet: from" in caplog.text
    assert first._fingerprint == again._fingerprint
    assert again.data.table.equals(first.data.table)
    assert len(list(tmp_path.iterdir())) == 1

    next(tmp_path.iterdir()).write_bytes(b"ARROW1 damaged")
    assert len(load_flights(source(server, cache=tmp_path), ["big"])) == 1_000_000
    put(server.client(), "big.1.parquet", pa.table({"x": np.arange(5)}))
    assert load_flights(source(server, cache=tmp_path), ["big"])["x"] == [0, 1, 2, 3, 4]


def test_a_cache_that_cannot_be_written_is_said_and_the_data_are_there(
    server, tmp_path, monkeypatch, caplog
):
    monkeypatch.setattr(store, "IN_MEMORY", 1 << 10)
    (tmp_path / "file").write_text("")
    put(server.client(), "big.1.parquet", pa.table({"x": np.arange(10_000)}))
    assert len(load_flights(source(server, cache=tmp_path / "file"), ["big"])) == 10_000
    assert "cannot be written" in caplog.text


def test_a_cache_without_room_is_said_and_not_taken_for_the_server(server, tmp_path, monkeypatch):
    monkeypatch.setattr(store, "IN_MEMORY", 1 << 10)
    put(server.client(), "big.1.parquet", pa.table({"x": np.arange(1_000_000)}))
    _, most = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, most))
    try:
        with pytest.raises(DataError, match=f"{tmp_path} cannot take large data .*--data-cache"):
            load_flights(source(server, cache=tmp_path, wait=600), ["big"])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("more", [True, False])
def test_a_server_that_is_cut_off_late_is_awaited_as_long_as_at_first(more):
    how = source(free_address(), wait=0.3)
    trials = []

    def step(*_):
        trials.append(1)
        time.sleep(0.2)
        if len(trials) > 5:
            return "whole"
        dialled.heard(len(trials) if more else 1)
        raise fl.FlightUnavailableError("cut")

    with how.dial(how.servers[0]) as dialled, nullcontext() if more else pytest.raises(Unreachable):
        assert dialled.call(step) == "whole"
