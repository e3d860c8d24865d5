"""What keeps images from being built is one sentence, and leaves what was there."""

import sys

import pytest

from flops_fl.cli import run
from flops_fl.errors import FlopsError, RepositoryError, UsageError
from flops_fl.images import build as building
from flops_fl.images.layout import Layout
from tests.images import tiny


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (
            "git+https://example.org/x.git",
            "conda.yaml line 4 has git.*, which is built",
        ),
        ("frame==2.0", "conda.yaml lists does not fit together .*frame==2.0.*: change"),
        ("nothing", r"does not fit together .*linux/amd64: .*nothing"),
    ],
)
def test_what_cannot_be_installed_is_one_sentence(image, repo, tmp_path, line, said):
    (repo / "conda.yaml").write_text(f"dependencies:\n  - python\n  - pip:\n    - {line}\n")
    with pytest.raises(RepositoryError, match=said) as told:
        image()
    assert "\n" not in str(told.value)
    assert not (tmp_path / "out").exists()


def test_without_a_network_one_sentence_says_so(image, monkeypatch, tmp_path):
    monkeypatch.setenv("UV_DEFAULT_INDEX", "http://127.0.0.1:9/simple")
    monkeypatch.setenv("UV_HTTP_RETRIES", "0")
    with pytest.raises(UsageError, match="package index cannot be reached .*UV_OFFLINE"):
        image()
    assert [*tmp_path.glob("*out*")] == []


def test_without_uv_one_sentence_says_so(image, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    with pytest.raises(FlopsError, match="uv is needed to build images, but not installed"):
        image()


@pytest.mark.parametrize(
    ("end", "said"),
    [
        (OSError(28, "No space left on device"), "no room is left beside .*/out or in uv's cache"),
        (KeyboardInterrupt(), None),
    ],
)
def test_a_build_that_ends_early_leaves_what_was_there(image, tmp_path, monkeypatch, end, said):
    before = image()

    def fail(*_):
        raise end

    monkeypatch.setattr(building, "write_layer", fail)
    with pytest.raises(UsageError if said else KeyboardInterrupt, match=said):
        image()
    monkeypatch.undo()
    assert [path.name for path in tmp_path.glob("*out*")] == ["out"]
    assert {each.digest for each in Layout(tmp_path / "out").index()} == {
        *before["images"].values()
    }


def test_a_base_with_an_older_python_is_refused(repo, wheels, tmp_path):
    base = tiny.base(tmp_path / "base", python="3.10")
    with pytest.raises(UsageError, match=r"has Python 3.10, but flops-fl needs >=3.11: give"):
        run(["image", str(repo), "--base", str(base), "--out", str(tmp_path / "out")])


def test_a_folder_that_is_something_else_is_not_replaced(image, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.tex").touch()
    with pytest.raises(UsageError, match="--out .* is there and is no OCI layout"):
        image()
    assert (tmp_path / "out" / "thesis.tex").exists()
