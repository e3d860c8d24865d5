"""What is put on a data server comes in batches, and what learners cannot read is not sent."""

import datasets
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet as pq
import pytest

import flops_fl.data
from flops_fl.data import progress
from flops_fl.data.content import ContentHash
from flops_fl.data.folder import load_folder
from flops_fl.data.local import place_at
from flops_fl.data.progress import followed
from flops_fl.data.remote import put as put_source
from flops_fl.data.rows import rows_in_folder, rows_of
from flops_fl.data.tables import features_of, require_same
from flops_fl.errors import DataError, UsageError
from flops_fl.options.data import PutOptions
from flops_fl.options.reading import build
from flops_fl.text import sentence

MB = 1 << 20


def hashed(source):
    digest = ContentHash(source.schema)
    for batch in source.batches():
        digest.add(batch)
    return digest.hexdigest()


def to_nobody(source):
    """Put a source where no server is: what is wrong with the data shows before."""
    given = {"source": str(source), "tag": "a", "server": "grpc://127.0.0.1:1"}
    put_source(str(source), "a", build(PutOptions, given | {"connect_timeout": "0.1"}))


def test_a_folder_is_read_in_batches_and_gets_the_name_of_its_dataset(tmp_path):
    rng = np.random.default_rng(0)
    for number in range(6):
        columns = {"x": rng.random(200_000), "label": rng.integers(0, 3, 200_000)}
        pq.write_table(pa.table(columns), tmp_path / f"a.{number}.parquet", use_dictionary=False)
    source, before = rows_in_folder(tmp_path), pa.total_allocated_bytes()
    held = [pa.total_allocated_bytes() - before for _ in source.batches()]
    assert max(held) < 8 * MB  # all have 19
    assert hashed(source) == hashed(rows_of(load_folder(tmp_path)))


def test_files_of_all_kinds_get_the_name_of_their_dataset(tmp_path):
    (tmp_path / "i.png").write_bytes(b"pixels")
    kinds = {"image": datasets.Image(), "plane": datasets.Array2D((1, 2), "uint8")}
    kinds = datasets.Features({**kinds, "label": datasets.ClassLabel(names=["no", "yes"])})
    content = {"image": [{"path": str(tmp_path / "i.png"), "bytes": None}], "label": [1]}
    table = datasets.Dataset.from_dict({**content, "plane": [[[1, 2]]]}, features=kinds).data.table
    folder = tmp_path / "data"
    folder.mkdir()
    pq.write_table(table, folder / "a.parquet")
    pq.write_table(table.select(["label", "plane", "image"]), folder / "b.parquet")
    pyarrow.feather.write_feather(table, folder / "c.feather")
    with pa.ipc.new_stream(folder / "d.arrow", table.schema) as stream:
        stream.write_table(table)
    source = rows_in_folder(folder)
    assert hashed(source) == hashed(rows_of(load_folder(folder)))
    assert [batch["image"][0]["bytes"].as_py() for batch in source.batches()] == [b"pixels"] * 4
    pq.write_table(pa.table({"label": [1]}), folder / "e.parquet")
    with pytest.raises(DataError, match="e.parquet"):
        rows_in_folder(folder)


@pytest.mark.parametrize("whole", [True, False])
def test_a_damaged_page_is_said_in_a_sentence(tmp_path, whole):
    path = tmp_path / "a.1.parquet"
    pq.write_table(pa.table({"x": np.repeat(np.arange(999.0), 50)}), path, use_dictionary=False)
    content = bytearray(path.read_bytes())
    content[200:5000] = b"\xff" * 4800
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"a\.1\.parquet cannot be read as Parquet .*: replace it"):
        to_nobody(tmp_path if whole else path)


MAP = pa.array([[("k", 1)]], pa.map_(pa.string(), pa.int64()))


@pytest.mark.parametrize(
    ("column", "said"),
    [
        (MAP, "'m' has the type map<string, int64.*>, which is not accepted: send numbers"),
        (pa.nulls(1), "'m' has only nulls and no type, .*: give it a type, or leave it out"),
    ],
)
def test_columns_that_no_learner_can_train_on_are_refused_before_anything_is_sent(
    tmp_path, column, said
):
    table = pa.table({"m": column})
    pq.write_table(table, tmp_path / "a.1.parquet")
    with pytest.raises(DataError, match=said):
        to_nobody(tmp_path / "a.1.parquet")
    for data in (table, iter(table.to_batches())):
        with pytest.raises(DataError, match=said):
            flops_fl.data.put(data, tag="a", server="grpc://127.0.0.1:1", connect_timeout=0.1)


def test_no_line_that_converts_is_given_for_an_empty_csv(tmp_path):
    (tmp_path / "a.csv").write_text("")
    with pytest.raises(DataError, match=r"found 1 \.csv, which is empty$"):
        to_nobody(tmp_path)


@pytest.mark.parametrize("use", [load_folder, rows_in_folder])
def test_what_is_not_read_in_a_folder_is_named(tmp_path, caplog, use):
    (tmp_path / "below").mkdir()
    (tmp_path / "notes").mkdir()
    for name in ("a.1.parquet", "a.2.parquet", "below/a.3.parquet"):
        pq.write_table(pa.table({"x": [1]}), tmp_path / name)
    use(tmp_path / "below")
    (tmp_path / "README.md").touch()
    (tmp_path / ".DS_Store").touch()
    assert not caplog.records
    (tmp_path / "c.csv").touch()
    use(tmp_path)
    (said,) = [record.getMessage() for record in caplog.records]
    assert "not read are 'below/', 'c.csv'; only files .parquet" in said


def test_a_server_that_is_given_twice_is_not_called_two():
    with pytest.raises(UsageError, match="grpc://127.0.0.1:1 is given twice: expected each server"):
        place_at("grpc://127.0.0.1:1,grpc://127.0.0.1:1")


def test_what_to_do_about_columns_that_differ_is_in_the_part_of_the_reason_that_others_see():
    long = "/srv/measurements/station-north/2026/" * 4
    ours, theirs = (
        features_of("x", pa.schema([("temperature", kind)])) for kind in (pa.int64(), pa.string())
    )
    with pytest.raises(DataError) as caught:
        require_same(f"{long}a.parquet", ours, f"{long}b.parquet", theirs)
    assert "write some of them again or choose by tag" in sentence(str(caught.value))


@pytest.mark.parametrize("terminal", [True, False])
def test_how_far_a_put_is_is_shown(capsys, caplog, monkeypatch, terminal):
    caplog.set_level("INFO", "flops_fl")
    monkeypatch.setattr(progress, "EVERY", 0.0)
    monkeypatch.setenv("FORCE_COLOR", "1" if terminal else "")
    batches = pa.table({"x": np.arange(1000.0)}).to_batches(max_chunksize=250)
    assert [*followed(batches, "sending", 8000, bar=True)] == batches
    shown = capsys.readouterr().err
    assert ("sending" in shown) == terminal
    lines = [record.getMessage() for record in caplog.records]
    assert lines == ([] if terminal else [f"sending: {n} KB of 8 KB" for n in (2, 4, 6, 8)])


def test_a_data_frame_is_put_like_its_table():
    table = pa.table({"x": [1.0, None], "label": [0, 1]})
    assert hashed(rows_of(table.to_pandas())) == hashed(rows_of(table))
    with pytest.raises(DataError, match="mixed or unknown types .*: give each column one type"):
        rows_of(pd.DataFrame({"x": [1, "a", {}]}))
