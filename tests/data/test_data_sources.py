"""Sources: what they hold, and the errors if they are unavailable."""

from __future__ import annotations

import gzip
import sys
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest

from flops_fl.actors.simulation import write_parts
from flops_fl.data import sources
from flops_fl.data.dataset import EagerDataset
from flops_fl.data.folder import load_folder
from flops_fl.data.sources import load_source
from flops_fl.errors import DataError, UsageError
from flops_fl.options.federation import SimulateOptions
from flops_fl.options.reading import parse

PIL = pytest.importorskip("PIL.Image")
SKLEARN = pytest.importorskip("sklearn.datasets")


def test_digits_are_the_scans_of_scikit_learn() -> None:
    dataset = load_source("digits", resize=None)
    assert type(dataset) is EagerDataset
    assert len(dataset) == 1797
    assert dataset.features == datasets.Features(
        {"image": datasets.Image(), "label": datasets.ClassLabel(num_classes=10)}
    )
    assert dataset[0]["image"].mode == "L"
    assert dataset[0]["image"].format == "PNG"
    dataset.set_format("numpy")
    raw = SKLEARN.load_digits()
    assert np.array_equal(dataset["image"], np.rint(raw.images / 16 * 255))
    assert np.array_equal(dataset["label"], raw.target)


def test_breast_cancer_is_a_table_with_a_column_for_each_measurement() -> None:
    dataset = load_source("breast-cancer").with_format("numpy")
    raw = SKLEARN.load_breast_cancer()
    assert dataset.column_names == [*raw.feature_names, "label"]
    assert dataset.features["label"].names == ["malignant", "benign"]
    rows = np.column_stack([dataset[name][:] for name in raw.feature_names])
    assert np.array_equal(rows, raw.data.astype(np.float32))  # as this format gives floats
    assert np.array_equal(dataset["label"], raw.target)


def test_resized_digits_feed_a_model_of_784_features() -> None:
    small, large = load_source("digits"), load_source("digits", resize=28)
    assert large.features == small.features
    expected = small[7]["image"].resize((28, 28), PIL.Resampling.BILINEAR)
    large.set_format("numpy")
    assert large["image"].reshape((len(large), -1)).shape == (1797, 784)
    assert np.array_equal(large[7]["image"], np.asarray(expected))
    assert large["label"].tolist() == small["label"]


def write_idx(file: Path, array: np.ndarray) -> None:
    header = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes()
    file.write_bytes(gzip.compress(header + array.astype(np.uint8).tobytes()))


def test_fashion_mnist_is_read_from_debians_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sources, "FASHION_MNIST", tmp_path)
    with pytest.raises(DataError, match="apt-get install dataset-fashion-mnist"):
        load_source("fashion-mnist")
    images = np.random.default_rng(0).integers(0, 256, (3, 28, 28))
    for stem in ("train", "t10k"):
        write_idx(tmp_path / f"{stem}-images-idx3-ubyte.gz", images)
        write_idx(tmp_path / f"{stem}-labels-idx1-ubyte.gz", np.array([9, 0, 1]))
    for source in ("fashion-mnist", "fashion-mnist:test"):
        dataset = load_source(source).with_format("numpy")
        assert np.array_equal(dataset["image"], images)
        assert dataset.features["label"].int2str(dataset["label"].tolist())[0] == "Ankle boot"
    with pytest.raises(UsageError, match="no split 'dev': expected train or test"):
        load_source("fashion-mnist:dev")


@pytest.mark.parametrize("content", [b"", b"noise", gzip.compress(b"\0\0\x08\x03ab", mtime=0)])
def test_a_damaged_idx_file_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes
) -> None:
    monkeypatch.setattr(sources, "FASHION_MNIST", tmp_path)
    (tmp_path / "train-images-idx3-ubyte.gz").write_bytes(content)
    with pytest.raises(DataError, match=r"train-images-idx3-ubyte.gz is not an IDX file"):
        load_source("fashion-mnist")


@pytest.mark.parametrize(
    ("source", "asked"),
    [
        ("hf:ylecun/mnist", ("ylecun/mnist", None, "train")),
        ("hf:glue:sst2", ("glue", "sst2", "train")),
        ("hf:ylecun/mnist::test", ("ylecun/mnist", None, "test")),
        ("hf:glue:sst2:train[:10]", ("glue", "sst2", "train[:10]")),
    ],
)
def test_a_name_on_the_hub_may_have_a_config_and_a_split(
    monkeypatch: pytest.MonkeyPatch, source: str, asked: tuple[Any, ...]
) -> None:
    calls = []

    def load_dataset(name: str, config: str | None, *, split: str) -> datasets.Dataset:
        calls.append((name, config, split))
        return datasets.Dataset.from_dict({"label": [1, 2]})

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    assert load_source(source)["label"] == [1, 2]
    assert calls == [asked]


def test_no_network_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    def load_dataset(*_: Any, **__: Any) -> None:
        raise ConnectionError("Couldn't reach the Hub\nand more\nlines")

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    with pytest.raises(DataError, match=r"cannot load 'hf:x'.*\(Couldn't reach the Hub\)") as info:
        load_source("hf:x")
    assert "\n" not in str(info.value)


def test_a_path_is_a_source(tmp_path: Path) -> None:
    datasets.Dataset.from_dict({"label": [3]}).to_parquet(tmp_path / "a.parquet")
    assert load_source(str(tmp_path / "a.parquet"))["label"] == [3]
    with pytest.raises(UsageError, match="needs a column of images: there are label"):
        load_source(str(tmp_path / "a.parquet"), resize=8)


def test_palette_and_missing_images_survive_resizing(tmp_path: Path) -> None:
    images = [PIL.new("P", (4, 4)), None, PIL.new("1", (4, 4)), PIL.new("RGB", (5, 3))]
    features = datasets.Features({"image": datasets.Image()})
    dataset = datasets.Dataset.from_dict({"image": images}, features=features)
    dataset.to_parquet(tmp_path / "a.parquet")
    found = load_source(str(tmp_path / "a.parquet"), resize=2)["image"]
    assert [image and (image.mode, image.size) for image in found] == [
        ("RGB", (2, 2)),
        None,
        ("L", (2, 2)),
        ("RGB", (2, 2)),
    ]


@pytest.mark.parametrize("source", ["", "mnist", "hf:", "digits:test", "no/such.parquet"])
def test_an_unknown_source_lists_the_choices(source: str) -> None:
    with pytest.raises(
        UsageError, match=f"'{source}': expected digits, breast-cancer, fashion-mnist.*, hf:NAME"
    ):
        load_source(source)


def test_a_size_below_one_pixel_is_refused() -> None:
    with pytest.raises(UsageError, match="--resize 0: expected at least 1"):
        load_source("digits", resize=0)


@pytest.mark.parametrize(
    ("module", "package"), [("sklearn.datasets", "scikit-learn"), ("PIL", "Pillow")]
)
def test_a_missing_package_names_the_extra(
    monkeypatch: pytest.MonkeyPatch, module: str, package: str
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(UsageError, match=rf"{package}: pip install '\.\[data\]'"):
        load_source("digits")


def test_simulate_resizes_the_images_of_a_folder_too(digits: Path, tmp_path: Path) -> None:
    options = parse(
        SimulateOptions, "simulate", "",
        ["r", "--learners", "2", "--data", str(digits / "part-0"), "--resize", "8"], {},
    )  # fmt: skip
    written = write_parts(options, ["a", "b"], tmp_path)
    assert written == tmp_path
    assert {image.size for image in load_folder(tmp_path, ["a", "b"])["image"]} == {(8, 8)}
