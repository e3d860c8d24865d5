"""A learner's folder: what is loaded, in which order, and what is refused with which message."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet as pq
import pytest

from flops_fl.data.dataset import EagerDataset
from flops_fl.data.folder import load_folder
from flops_fl.data.names import has_tag
from flops_fl.errors import DataError

CLASSES = datasets.Features({"x": datasets.Value("int64"), "label": datasets.ClassLabel(2)})


def table(*values: int, features: datasets.Features = CLASSES) -> pa.Table:
    columns = {"x": list(values), "label": [0 for _ in values]}
    return datasets.Dataset.from_dict(columns, features=features).data.table


def write(path: Path, content: pa.Table) -> Path:
    path.parent.mkdir(exist_ok=True)
    if path.suffix == ".parquet":
        pq.write_table(content, path)
    elif path.suffix == ".feather":
        pyarrow.feather.write_feather(content, path)
    else:
        with pa.ipc.new_stream(path, content.schema) as writer:
            writer.write_table(content)
    return path


def test_all_formats_are_joined_in_the_order_of_their_names(tmp_path: Path) -> None:
    write(tmp_path / "c.parquet", table(5))
    write(tmp_path / "a.arrow", table(1, 2))
    write(tmp_path / "b.feather", table(3, 4))
    with pa.ipc.new_file(tmp_path / "d.arrow", table().schema) as writer:
        writer.write_table(table(6))
    write(tmp_path / ".being-written.parquet", table(7))
    (tmp_path / "notes.txt").write_text("not data")
    dataset = load_folder(tmp_path, [])
    assert type(dataset) is EagerDataset
    assert dataset["x"] == [1, 2, 3, 4, 5, 6]
    assert dataset.features == CLASSES


@pytest.mark.parametrize(
    ("name", "tag", "matches"),
    [
        ("a.x.parquet", "a", True),
        ("a.parquet", "a", True),
        ("ab.x.parquet", "a", False),
        ("a-b.parquet", "a", False),
        ("v1.2.x.parquet", "v1.2", True),
        ("v1.20.x.parquet", "v1.2", False),
        ("x.a.parquet", "a", False),
    ],
)
def test_a_tag_is_the_whole_beginning_of_a_name(name: str, tag: str, matches: bool) -> None:
    assert has_tag(name, [tag]) is matches


def test_only_files_of_the_tags_are_loaded(tmp_path: Path) -> None:
    for number, name in enumerate(["a.1", "a.2", "ab.1", "c"]):
        write(tmp_path / f"{name}.parquet", table(number))
    assert load_folder(tmp_path, ["a"])["x"] == [0, 1]
    assert load_folder(tmp_path, ["c", "a"])["x"] == [0, 1, 3]
    assert load_folder(tmp_path, [])["x"] == [0, 1, 2, 3]


def test_a_tag_without_files_is_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for name in ("a.1", "b.1"):
        write(tmp_path / f"{name}.parquet", table(1))
    assert len(load_folder(tmp_path, ["a", "bb"])) == 1
    assert caplog.messages == [f"no file at {tmp_path} has a tag among 'bb': the others are used"]
    load_folder(tmp_path, ["a", "b"])
    assert len(caplog.messages) == 1


def test_one_file_is_data_too(tmp_path: Path) -> None:
    file = write(tmp_path / "a.1.parquet", table(1))
    assert load_folder(file, [])["x"] == load_folder(file, ["a"])["x"] == [1]
    with pytest.raises(DataError, match=r"no file at .*a.1.parquet has a tag among 'b'"):
        load_folder(file, ["b"])


def test_a_folder_named_like_a_hive_partition_adds_no_column(tmp_path: Path) -> None:
    write(tmp_path / "year=2024" / "a.parquet", table(1))
    assert load_folder(tmp_path / "year=2024", []).column_names == ["x", "label"]


def test_images_decode(tmp_path: Path) -> None:
    image = pytest.importorskip("PIL.Image")
    pixels = np.arange(12, dtype=np.uint8).reshape(3, 4)
    features = datasets.Features({"image": datasets.Image()})
    dataset = datasets.Dataset.from_dict({"image": [image.fromarray(pixels)]}, features=features)
    write(tmp_path / "a.parquet", dataset.data.table)
    write(tmp_path / "b.arrow", dataset.data.table)
    loaded = load_folder(tmp_path, [])
    loaded.set_format("numpy")
    assert np.array_equal(loaded["image"], np.stack([pixels, pixels]))


def test_a_dataset_saved_to_disk_is_loaded_as_it_was(tmp_path: Path) -> None:
    saved = datasets.Dataset(table(1, 2, 3, 4)).select([3, 1, 0]).with_format("numpy")
    saved.save_to_disk(tmp_path / "saved", num_shards=2)
    loaded = load_folder(tmp_path / "saved", [])
    assert loaded["x"].tolist() == [4, 2, 1]
    assert loaded.features == CLASSES
    assert loaded.split == saved.split
    assert loaded.format == saved.format
    with pytest.raises(DataError, match=r"save_to_disk, which tags \('a'\) cannot filter"):
        load_folder(tmp_path / "saved", ["a"])


def test_a_damaged_saved_dataset_is_named(tmp_path: Path) -> None:
    datasets.Dataset(table(1)).save_to_disk(tmp_path / "saved")
    (tmp_path / "saved" / "state.json").write_text("{")
    with pytest.raises(DataError, match=r"saved at .*saved cannot be read .*: save it again"):
        load_folder(tmp_path / "saved", [])


def test_a_dataset_dict_says_which_splits_it_has(tmp_path: Path) -> None:
    one = datasets.Dataset(table(1))
    datasets.DatasetDict(train=one, test=one).save_to_disk(tmp_path / "both")
    with pytest.raises(
        DataError, match=r"splits 'train', 'test': point to one of them.*both/train"
    ):
        load_folder(tmp_path / "both", [])
    assert load_folder(tmp_path / "both" / "train", [])["x"] == [1]


def test_columns_in_another_order_are_the_same_columns(tmp_path: Path) -> None:
    write(tmp_path / "a.parquet", table(1))
    write(tmp_path / "b.parquet", table(2).select(["label", "x"]))
    assert load_folder(tmp_path, []).to_dict() == {"x": [1, 2], "label": [0, 0]}


OTHER_NAMES = datasets.Features({**CLASSES, "label": datasets.ClassLabel(names=["cat", "dog"])})


@pytest.mark.parametrize(
    ("other", "column"),
    [
        (table(2, features=OTHER_NAMES), "label"),
        (table(2).replace_schema_metadata(), "label"),
        (table(2).select(["label"]), "x"),
        (table(2).append_column("more", pa.array([1])), "more"),
        (table(2).set_column(0, "x", pa.array([2.0])), "x"),
    ],
)
def test_files_that_disagree_are_refused(tmp_path: Path, other: pa.Table, column: str) -> None:
    write(tmp_path / "a.parquet", table(1))
    write(tmp_path / "b.parquet", other)
    with pytest.raises(DataError, match=rf"column '{column}' is .*b\.parquet but .*a\.parquet"):
        load_folder(tmp_path, [])


@pytest.mark.parametrize("suffix", [".parquet", ".arrow", ".feather"])
@pytest.mark.parametrize("damage", ["empty", "noise", "cut"])
def test_an_unreadable_file_is_named(tmp_path: Path, suffix: str, damage: str) -> None:
    file = write(tmp_path / f"a{suffix}", table(*range(500)))
    whole = file.read_bytes()
    damaged = {"empty": b"", "noise": b"\xff" * 99, "cut": whole[: len(whole) // 2]}[damage]
    file.write_bytes(damaged)
    with pytest.raises(DataError, match=rf"a\{suffix} cannot be read as .*: replace it"):
        load_folder(tmp_path, [])


def test_metadata_that_datasets_does_not_know_is_named(tmp_path: Path) -> None:
    info = json.dumps({"info": {"features": {"x": {"_type": "Hologram"}}}})
    write(tmp_path / "a.parquet", table(1).replace_schema_metadata({"huggingface": info}))
    with pytest.raises(DataError, match=r"a.parquet has .*metadata that datasets"):
        load_folder(tmp_path, [])


def test_no_rows_no_training(tmp_path: Path) -> None:
    write(tmp_path / "a.parquet", table(1).slice(0, 0))
    with pytest.raises(DataError, match=r"no rows in .*a.parquet"):
        load_folder(tmp_path, [])
    write(tmp_path / "b.parquet", table(1))
    assert load_folder(tmp_path, [])["x"] == [1]


def test_files_of_other_kinds_are_named_with_the_line_that_converts_them(tmp_path: Path) -> None:
    (tmp_path / "Süd's x.csv").write_text("a,b\n1,2\n")
    with pytest.raises(DataError, match=r"\.feather; found 1 \.csv\. To convert:") as caught:
        load_folder(tmp_path, [])
    _, *words = shlex.split(str(caught.value).partition("To convert: ")[2])
    done = [sys.executable, *words]
    subprocess.run(done, check=True, cwd=tmp_path, env={**os.environ, "HF_HOME": str(tmp_path)})
    assert load_folder(tmp_path, ["Süd's x"])["b"] == [2]
    with pytest.raises(DataError, match=r"found 1 \.csv"):
        load_folder(tmp_path / "Süd's x.csv", [])


def test_a_folder_of_images_is_named(tmp_path: Path) -> None:
    for name in ("cats/1.png", "cats/2.PNG", "dogs/3.png", "README"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    with pytest.raises(DataError, match=r"found 3 \.png, 1 without suffix\. docs/ml-repo"):
        load_folder(tmp_path, [])


@pytest.mark.parametrize("name", ["digits", "fashion-mnist:test", "hf:ylecun/mnist"])
def test_a_datasets_name_where_parts_are_wanted_has_its_command(tmp_path: Path, name: str) -> None:
    for path in (Path(name), tmp_path / name):
        with pytest.raises(DataError, match=f"flops-fl data partition {name} --parts 2 --tag TAG"):
            load_folder(path, [])
    with pytest.raises(DataError, match="expected a folder or a file$"):
        load_folder(tmp_path / "mydigits", [])


def test_what_is_not_there_is_said_with_what_is(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="missing does not exist"):
        load_folder(tmp_path / "missing", [])
    with pytest.raises(DataError, match=r"no data files at .*: expected \.parquet"):
        load_folder(tmp_path, [])
    write(tmp_path / "part-0" / "a.b.12.parquet", table(1))
    with pytest.raises(DataError, match="point to one of its folders: 'part-0'"):
        load_folder(tmp_path, [])
    with pytest.raises(DataError, match=r"a tag among 'x', 'y': the tags there are 'a.b'"):
        load_folder(tmp_path / "part-0", ["x", "y"])
