"""Columns are values, and they stay values whatever is done to the dataset."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest

from flops_fl.data.dataset import EagerDataset, wrap


def plain() -> datasets.Dataset:
    return datasets.Dataset.from_dict(
        {"image": [[[i, i + 1], [i, i]] for i in range(8)], "label": [0, 1] * 4}
    )


def test_the_code_of_the_seed_page_works() -> None:
    dataset = wrap(plain())
    dataset.set_format("numpy")
    assert dataset["image"].reshape((len(dataset), -1)).shape == (8, 4)
    assert isinstance(dataset["label"], np.ndarray)


def test_without_a_format_a_column_is_a_list() -> None:
    assert wrap(plain())["label"] == [0, 1] * 4


@pytest.mark.parametrize("kind", ["arrow", "pandas"])
def test_formats_that_were_never_lazy_are_untouched(kind: str) -> None:
    pytest.importorskip("pandas")
    column = wrap(plain()).with_format(kind)["label"]
    assert type(column) is type(plain().with_format(kind)["label"])


def test_a_transform_that_needs_all_columns_gets_them() -> None:
    def both(batch: dict[str, Any]) -> dict[str, Any]:
        return {"label": [a * b[0][0] for a, b in zip(batch["label"], batch["image"], strict=True)]}

    assert wrap(plain()).with_transform(both)["label"] == [0, 1, 0, 3, 0, 5, 0, 7]


def double(row: dict[str, Any]) -> dict[str, Any]:
    return {"label": row["label"] * 2}


METHODS: dict[str, Callable[[Any], Any]] = {
    "select": lambda d: d.select([2, 0]),
    "select range": lambda d: d.select(range(3)),
    "shuffle": lambda d: d.shuffle(seed=1),
    "map": lambda d: d.map(double),
    "filter": lambda d: d.filter(lambda row: row["label"] == 1),
    "with_format": lambda d: d.with_format("numpy"),
    "sort": lambda d: d.sort("label"),
    "shard": lambda d: d.shard(2, 0),
    "rename_column": lambda d: d.rename_column("image", "x"),
    "rename_columns": lambda d: d.rename_columns({"image": "x"}),
    "remove_columns": lambda d: d.remove_columns("image"),
    "select_columns": lambda d: d.select_columns("label"),
    "cast": lambda d: d.cast(d.features.copy()),
    "cast_column": lambda d: d.cast_column("label", datasets.Value("int32")),
    "add_column": lambda d: d.add_column("more", list(range(8))),
    "class_encode_column": lambda d: d.class_encode_column("label"),
    "flatten_indices": lambda d: d.select([1, 0]).flatten_indices(),
    "take": lambda d: d.take(2),
    "skip": lambda d: d.skip(2),
    "repeat": lambda d: d.repeat(2),
    "batch": lambda d: d.batch(2),
}


@pytest.mark.parametrize("name", METHODS)
def test_what_methods_return_is_eager_and_the_same_as_of_a_plain_dataset(name: str) -> None:
    result, expected = METHODS[name](wrap(plain())), METHODS[name](plain())
    assert type(result) is EagerDataset
    assert type(expected) is datasets.Dataset
    assert result.to_dict() == expected.to_dict()
    assert result.features == expected.features
    assert not isinstance(result["label"], datasets.Column)


def test_both_halves_of_a_split_are_eager_in_a_dataset_dict() -> None:
    dataset = wrap(plain()).class_encode_column("label").with_format("numpy")
    split = dataset.train_test_split(test_size=0.5, seed=3, stratify_by_column="label")
    assert isinstance(split, datasets.DatasetDict)
    assert split["train"]["label"].sum() == split["test"]["label"].sum() == 2
    again = split.map(lambda batch: {"more": batch["label"]}, batched=True)
    assert type(again["test"]) is EagerDataset


def test_wrapping_leaves_the_original_alone_and_keeps_rows_and_format() -> None:
    original = plain().select([3, 1]).with_format("numpy")
    wrapped = wrap(original)
    wrapped.set_format(None)
    assert type(original) is datasets.Dataset
    assert original.format["type"] == "numpy"
    assert wrapped["label"] == [1, 1]
    assert wrap(wrapped) is wrapped


def test_importing_the_package_is_cheap_and_a_loaded_folder_writes_no_cache(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    plain().to_parquet(data / "a.parquet")
    plain().save_to_disk(tmp_path / "saved")
    before = sorted(tmp_path.rglob("*"))
    code = """
import sys, pathlib
import flops_fl.data, flops_fl.data.command, flops_fl.data.folder
assert not {"datasets", "pyarrow", "pandas"} & set(sys.modules)
for name in ("data", "saved"):
    dataset = flops_fl.data.folder.load_folder(pathlib.Path(name))
    assert len(dataset.map(lambda row: {"label": 1}).shuffle(seed=1).filter(bool)) == 8
    assert not dataset.cache_files
"""
    env = os.environ | {"HF_HOME": str(tmp_path / "hf"), "HOME": str(tmp_path)}
    env["PYTHONPATH"] = os.pathsep.join(p for p in sys.path if p)
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=env, check=True, timeout=60)
    assert sorted(tmp_path.rglob("*")) == before
