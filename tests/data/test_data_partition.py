"""Partitions: every row in one part, the same parts every time, and no file lost."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from flops_fl.data.command import partition_command
from flops_fl.data.folder import load_folder
from flops_fl.data.partition import partition, write_partitions
from flops_fl.data.split import split_of, table
from flops_fl.errors import DataError, UsageError
from flops_fl.options.data import PartitionOptions
from flops_fl.options.reading import build

LABELS = np.arange(600) % 10
DATASET = datasets.Dataset(
    pa.table({"row": np.arange(600), "label": LABELS}), fingerprint="rows-and-labels"
)

parts = st.integers(1, 40)
seeds = st.integers(0, 2**64)
alphas = st.one_of(st.floats(0.001, 1000), st.floats(min_value=5e-324, allow_infinity=False))
schemes = st.one_of(
    st.sampled_from(["iid", "linear", "shards:2", "column:label"]),
    alphas.map("dirichlet:{!r}".format),
)


@given(parts, schemes, seeds)
@settings(deadline=None, max_examples=50)
def test_parts_are_a_disjoint_cover_of_all_rows_and_none_is_empty(
    parts: int, scheme: str, seed: int
) -> None:
    try:
        cut = partition(DATASET, parts, scheme=scheme, seed=seed)
    except DataError:
        event("refused")
        assert scheme != "iid"
        return
    assert len(cut) == parts
    assert min(len(part) for part in cut) >= 1
    assert sorted(np.concatenate(cut).tolist()) == list(range(600))


@given(parts, st.sampled_from(["iid", "linear", "dirichlet:1", "shards:3", "column:row"]), seeds)
@settings(deadline=None, max_examples=20)
def test_the_same_seed_gives_the_same_parts(parts: int, scheme: str, seed: int) -> None:
    one, other = (partition(DATASET, parts, scheme=scheme, seed=seed) for _ in range(2))
    assert all(map(np.array_equal, one, other))


@given(parts, seeds)
@settings(deadline=None, max_examples=20)
def test_iid_sizes_differ_by_one_row_at_most(parts: int, seed: int) -> None:
    sizes = [len(part) for part in partition(DATASET, parts, scheme="iid", seed=seed)]
    assert max(sizes) - min(sizes) <= 1


def class_counts(scheme: str) -> Any:
    cut = partition(DATASET, 5, scheme=scheme, seed=1)
    return np.array([np.bincount(LABELS[part], minlength=10) for part in cut])


def test_alpha_says_how_unlike_the_parts_are() -> None:
    assert (class_counts("dirichlet:1e6") == 12).mean() > 0.9
    assert (class_counts("dirichlet:0.05") == 0).mean() > 0.4


def test_shards_give_a_part_few_classes() -> None:
    cut = partition(DATASET, 5, scheme="shards:2", seed=1)
    assert {len(part) for part in cut} == {120}
    assert all(len(set(LABELS[part])) == 2 for part in cut)


def test_linear_sizes_grow_by_equal_steps() -> None:
    sizes = [len(part) for part in partition(DATASET, 4, scheme="linear", seed=1)]
    assert sizes == [60, 120, 180, 240]


def test_rows_of_one_value_of_a_column_stay_together() -> None:
    cut = partition(DATASET, 3, scheme="column:label", seed=1)
    owners = [{int(label) for label in LABELS[part]} for part in cut]
    assert sorted(label for own in owners for label in own) == list(range(10))


def test_a_table_says_how_labels_are_split(tmp_path: Path, caplog: Any) -> None:
    caplog.set_level("INFO", "flops_fl")
    picture = tmp_path / "split.svg"
    partition_command("digits", 2, "t", tmp_path, scheme="shards:1", picture=picture)
    assert "<!-- 1 (898 rows) -->" in picture.read_text()
    assert [" ".join(line.split()) for line in caplog.messages] == [
        "part rows 0 1 2 3 4 5 6 7 8 9",
        "0 899 178 182 177 183 179 0 0 0 0 0",
        "1 898 0 0 0 0 2 182 181 179 174 180",
    ]


def test_labels_are_counted_without_names_and_nulls_with_large_splits_in_a_line() -> None:
    labels = ["b", None, "a", "b", "b"] * 20
    dataset = datasets.Dataset.from_dict({"label": labels, "x": [0.5] * 100})
    split = split_of(dataset, {"l0": np.arange(5), "l1": np.arange(5, 100)})
    assert split is not None
    assert (split.classes, split.counts.tolist()) == (["a", "b"], [[1, 3], [19, 57]])
    assert table(split)[1].split() == ["l0", "5", "1", "3"]
    many = split_of(dataset, {str(index): np.array([index]) for index in range(100)})
    assert many is not None
    assert table(many, "learner") == ["100 learners of 1 to 1 rows, 2 labels: too many for a table"]
    assert split_of(dataset, {"l0": np.arange(5)}, label="x") is None  # numbers, no classes
    assert split_of(dataset, {"l0": np.arange(5)}, label="y") is None


def test_a_picture_needs_labels_and_a_place(tmp_path: Path) -> None:
    pq.write_table(pa.table({"x": [1.5, 2.5]}), tmp_path / "x.parquet")
    for source, place, said in (
        (tmp_path / "x.parquet", "a.png", "needs a column 'label' of classes: the columns are x"),
        ("digits", "a.png/b.png", "cannot be written .* give another file"),
    ):
        (tmp_path / "a.png").write_text("")
        with pytest.raises(UsageError, match=said):
            partition_command(str(source), 2, "t", tmp_path / "out", picture=tmp_path / place)
        assert not (tmp_path / "out").exists()
    with pytest.raises(UsageError, match="a.jpg: expected a file that ends with .png or"):
        build(PartitionOptions, {"source": "digits", "parts": 2, "tag": "t", "picture": "a.jpg"})


def test_another_seed_gives_other_parts() -> None:
    one, other = (partition(DATASET, 2, scheme="dirichlet:1", seed=s)[0] for s in (1, 2))
    assert not np.array_equal(one, other)


def test_rows_of_a_part_are_not_sorted_by_class() -> None:
    part = partition(DATASET, 2, scheme="dirichlet:100", seed=0)[0]
    assert len(set(LABELS[part[-20:]])) > 3


def test_classes_may_be_words_or_missing_and_rows_a_selection() -> None:
    words = datasets.Dataset.from_dict({"kind": ["cat", None, "dog", "cat", None, "eel"]})
    chosen = words.select([5, 4, 3, 1])
    cut = partition(chosen, 2, scheme="dirichlet:50", seed=0, label="kind")
    assert sorted(np.concatenate(cut).tolist()) == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"parts": 0}, "0 parts: expected at least 1"),
        ({"parts": 601}, "601 parts of 600 rows"),
        ({"seed": -1}, "seed -1: expected 0 or more"),
        (
            {"scheme": "pareto"},
            "no partition scheme 'pareto': expected iid, linear, dirich",
        ),
        ({"scheme": "iid:2"}, "no partition scheme 'iid:2'"),
        ({"scheme": "shards"}, "how many shards each part gets, 1 or more, as in iid"),
        ({"scheme": "shards:0"}, "how many shards each part gets, 1 or more"),
        ({"scheme": "shards:2.5"}, "how many shards each part gets, 1 or more"),
        ({"scheme": "shards:9999"}, "lower the parts or the shards"),
        ({"scheme": "column:"}, "expected the name of a column"),
        ({"scheme": "column:user"}, "no column 'user' for column:user: there are row, label"),
        ({"scheme": "column:label", "parts": 11}, "has only 10 values: lower the parts"),
        ({"scheme": "linear", "parts": 60}, "linear leaves a part without rows"),
        ({"scheme": "dirichlet"}, "expected an alpha above 0"),
        ({"scheme": "dirichlet:0"}, "expected an alpha above 0"),
        ({"scheme": "dirichlet:-1"}, "expected an alpha above 0"),
        ({"scheme": "dirichlet:much"}, "expected an alpha above 0"),
        ({"scheme": "dirichlet:nan"}, "expected an alpha above 0"),
        ({"scheme": "dirichlet:inf"}, "expected an alpha above 0"),
        ({"scheme": "dirichlet:1", "label": "y"}, "no column 'y' .* there are row, label"),
        ({"scheme": "dirichlet:1e-9", "parts": 40}, "raise alpha or lower the parts"),
    ],
)
def test_what_cannot_be_cut_is_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        partition(DATASET, **({"parts": 2, "scheme": "iid", "seed": 0} | options))


def test_a_column_of_lists_has_no_classes() -> None:
    lists = datasets.Dataset.from_dict({"label": [[1], [2]]})
    with pytest.raises(DataError, match="dirichlet needs one class a row"):
        partition(lists, 2, scheme="dirichlet:1", seed=0)


def images(folder: Path) -> datasets.Dataset:
    """Images in files that the dataset only points to, as a folder of pictures gives them."""
    image = pytest.importorskip("PIL.Image")
    paths = [str(folder / f"{grey}.png") for grey in range(4)]
    for grey, path in enumerate(paths):
        image.new("L", (2, 2), grey).save(path)
    features = datasets.Features(
        {
            "image": datasets.Image(),
            "label": datasets.ClassLabel(names=["cat", "dog"]),
            "grid": datasets.Array2D((1, 2), "float32"),
        }
    )
    columns = {"image": paths, "label": [0, 1, 0, 1], "grid": [[[0, 1]]] * 4}
    return datasets.Dataset.from_dict(columns, features=features)


def test_written_parts_travel_with_features_and_images(tmp_path: Path) -> None:
    dataset = images(tmp_path)
    out = tmp_path / "out"
    paths = write_partitions(dataset, ["a", "b"], out, scheme="iid", seed=3)
    for picture in tmp_path.glob("*.png"):
        picture.unlink()
    for tag, path in zip("ab", paths, strict=True):
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        assert path == out / f"{tag}.{digest[:8]}.parquet"
        assert b"huggingface" in pq.read_schema(path).metadata
        assert load_folder(out, [tag]).features == dataset.features
    loaded = load_folder(out).with_format("numpy")
    assert sorted(loaded["image"].max(axis=(1, 2)).tolist()) == [0, 1, 2, 3]
    assert sorted(entry.name for entry in out.iterdir()) == [path.name for path in paths]


@pytest.mark.parametrize("tags", [[], [""], ["a/b"], ["a,b"], [".a"], ["a", "a"], ["a", "a.b"]])
def test_tags_that_would_mix_files_up_are_refused(tmp_path: Path, tags: list[str]) -> None:
    with pytest.raises(UsageError, match="tag"):
        write_partitions(DATASET, tags, tmp_path, scheme="iid", seed=0)


@pytest.fixture
def source(tmp_path: Path) -> str:
    path = tmp_path / "source.parquet"
    DATASET.to_parquet(path)
    return str(path)


def test_the_command_gives_each_learner_a_folder_and_does_it_again(
    tmp_path: Path, source: str
) -> None:
    out = tmp_path / "out"
    paths = partition_command(source, 3, "mnist", out, seed=5)
    assert [path.parent.name for path in paths] == ["part-0", "part-1", "part-2"]
    assert all(path.name.startswith(f"mnist.{i}-") for i, path in enumerate(paths))
    rows = [row for i in range(3) for row in load_folder(out / f"part-{i}", ["mnist"])["row"]]
    assert sorted(rows) == list(range(600))
    before = {path: path.read_bytes() for path in paths}
    assert partition_command(source, 3, "mnist", out, seed=5) == paths
    assert {path: path.read_bytes() for path in out.glob("*/*")} == before


@pytest.mark.parametrize("options", [{"seed": 6}, {"parts": 2}, {"parts": 11}])
def test_another_partition_in_the_same_folder_is_refused_and_nothing_lost(
    tmp_path: Path, source: str, options: dict[str, int]
) -> None:
    out = tmp_path / "out"
    first = {"source": source, "parts": 3, "tag": "mnist", "out": out, "seed": 5}
    paths = partition_command(**first)
    before = {path: path.read_bytes() for path in paths}
    with pytest.raises(DataError, match=r"is there already.*choose another --out, or remove it"):
        partition_command(**{**first, **options})
    assert {path: path.read_bytes() for path in out.glob("*/*")} == before
    partition_command(**{**first, **options, "tag": "other"})  # another tag is no obstacle
    assert load_folder(out / "part-0", ["mnist"]).num_rows == 200


def test_eleven_parts_sort_by_name(tmp_path: Path, source: str) -> None:
    paths = partition_command(source, 11, "t", tmp_path / "out", scheme="dirichlet:5")
    assert paths == sorted(paths)
    assert paths[0].parent.name == "part-00"


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path, source: str) -> None:
    with pytest.raises(DataError, match=r"cannot write the parts .*source.parquet"):
        partition_command(source, 2, "t", Path(source))


@pytest.mark.parametrize(
    ("parts", "tag", "scheme"), [(0, "t", "iid"), (2, "a/b", "iid"), (2, "t", "pareto")]
)
def test_wrong_options_are_refused_before_anything_is_loaded(
    tmp_path: Path, parts: int, tag: str, scheme: str
) -> None:
    with pytest.raises(UsageError) as info:
        partition_command("no-such-source", parts, tag, tmp_path, scheme=scheme)
    assert "no-such-source" not in str(info.value)
