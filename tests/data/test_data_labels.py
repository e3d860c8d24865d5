"""The column of labels: another one is named, and one that is missing is said at once."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from flops_fl import cli
from flops_fl.data.command import partition_command
from flops_fl.errors import DataError


def test_another_column_of_labels_is_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "flops_fl")
    source = tmp_path / "s.parquet"
    table = pa.table({"x": range(60), "kind": [n % 2 for n in range(60)]})
    pq.write_table(table, source)

    def cut(*options: str) -> None:
        out = str(tmp_path / f"out{len(options)}")
        words = ["partition", str(source), "--parts", "2", "--tag", "t", "--out", out]
        assert cli.run(["data", *words, *options]) == 0

    cut("--partition", "shards:1", "--label", "kind")
    part = pq.read_table(next((tmp_path / "out4" / "part-0").iterdir()))
    assert len(set(part["kind"].to_pylist())) == 1
    assert [line.split() for line in caplog.messages] == [
        ["part", "rows", "0", "1"],
        *([name, "30", *counts] for name, counts in zip("01", _counts(part), strict=True)),
    ]
    caplog.clear()
    cut()
    said = "no table of the split, since there is no column 'label': --label names another"
    assert caplog.messages == [said]


def _counts(part: pa.Table) -> list[list[str]]:
    first = ["30", "0"] if part["kind"][0].as_py() == 0 else ["0", "30"]
    return [first, first[::-1]]


@pytest.mark.parametrize("scheme", ["dirichlet:1", "shards:1", "column:label"])
def test_a_missing_column_is_said_before_rows_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scheme: str
) -> None:
    pq.write_table(pa.table({"x": [1, 2]}), tmp_path / "s.parquet")
    monkeypatch.setattr("flops_fl.data.command.load_source", None)
    with pytest.raises(DataError, match="no column 'label' for .*: there are x; name one of them"):
        partition_command(str(tmp_path), 2, "t", tmp_path / "out", scheme=scheme)
