"""What keeps images from being built is one sentence, and leaves what was there."""

import errno
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from flops_fl.cli import run
from flops_fl.errors import FlopsError, RepositoryError, UsageError
from flops_fl.images.layout import Layout
from tests.conftest import ROOT
from tests.images import tiny


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (
            "git+https://example.org/x.git",
            "conda.yaml line 4 has git.*, which is built",
        ),
        ("./pkg", r"conda.yaml line 4 has ./pkg, which is built from source.* list its path"),
        (".", r"conda.yaml line 4 has ., which is built from source"),
        ("./n-1-py3-none-any.whl", "Distribution not found at.*Digits_Model/n-1-py3"),
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


# KiB at which the base, the packages, their bytecode, and the layers have no room.
@pytest.mark.parametrize("size", [8, 48, pytest.param(120, marks=pytest.mark.slow)])
def test_a_full_disk_is_one_sentence(image, small_disk, size):
    folder = small_disk(size)
    with pytest.raises(
        UsageError, match="no room is left beside .*small/out or in uv's cache: make"
    ):
        image(out="small/out")
    assert [*folder.iterdir()] == []


def test_a_full_disk_under_uvs_cache_is_one_sentence(image, small_disk, tmp_path, monkeypatch):
    monkeypatch.setenv("UV_CACHE_DIR", str(small_disk(8) / "cache"))
    with pytest.raises(UsageError, match="no room is left beside .*out or in uv's cache: make"):
        image()
    assert [*tmp_path.glob("*out*")] == []


PROGRAM = """
import resource, signal, sys, time
from flops_fl.images import build
from tests.images.tiny import small_runtime

small_runtime(setattr)
limit, write = int(sys.argv.pop(1)), build.write_layer

def hang(title, *rest):
    layer = write(title, *rest)
    if title == "code" and not limit:
        print("half made", file=sys.stderr, flush=True)
        time.sleep(600)
    return layer

build.write_layer = hang
if limit:
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
from flops_fl.cli import main

main()
"""


@pytest.fixture
def program(repo, wheels, tmp_path):
    """Starts flops-fl image in a process that hangs in the midst, or may write small files only."""
    base = tmp_path / "base"

    def start(limit=0):
        return subprocess.Popen(
            [
                *(sys.executable, "-c", PROGRAM, str(limit), "image", repo, "--base", base),
                *("--out", tmp_path / "out"),
            ],
            cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip

    return start


@pytest.mark.slow
@pytest.mark.parametrize("which", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_build_that_is_interrupted_leaves_what_was_there(image, program, tmp_path, which):
    before = image()["images"]
    with program() as building:
        said = ""
        while "half made" not in said:
            line = building.stderr.readline()
            assert line, said
            said += line
        assert len([*tmp_path.glob("*out*")]) == 2
        building.send_signal(which)
        said = building.stderr.read()
        code = building.wait(60)
    assert {each.digest for each in Layout(tmp_path / "out").index()} == {*before.values()}
    if which == signal.SIGKILL:
        assert len([*tmp_path.glob("*out*")]) == 2
        assert image()["images"] == before  # which takes away what was left
    else:
        assert (code, said.count("\n")) == (130, 1)
        assert said.endswith("interrupted\n")
    assert [path.name for path in tmp_path.glob("*out*")] == ["out"]


@pytest.mark.slow
@pytest.mark.parametrize("limit", [100, 20_000])  # bytes: uv's files, and those of layers
def test_a_limit_of_file_sizes_is_one_sentence(image, program, tmp_path, limit):
    with program(limit) as building:
        said = building.stderr.read()
        assert building.wait(60) == 2, said
    assert "would be larger than this process may write: raise that limit (ulimit -f)" in said
    assert "Traceback" not in said
    assert [*tmp_path.glob("*out*")] == []


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


def test_a_folder_that_cannot_be_written_is_one_sentence(repo, wheels, tmp_path, capsys):
    line = ["image", str(repo), "--base", str(tmp_path / "base"), "--out"]
    with pytest.raises(UsageError, match=r"made in /proc/self \(.*give a folder elsewhere with --"):
        run([*line, "/proc/self/out"])  # which nobody can write, not even root
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match=r"--out .*file/x/out cannot be made \(.*give another"):
        run([*line, str(tmp_path / "file" / "x" / "out")])


def test_a_folder_that_cannot_be_replaced_is_one_sentence(image, monkeypatch):
    image()
    rename = Path.rename

    def no_rename(path, to):
        if to.name == "earlier":
            raise OSError(errno.EBUSY, "Device or resource busy")
        return rename(path, to)

    monkeypatch.setattr(Path, "rename", no_rename)
    with pytest.raises(UsageError, match=r"out cannot be replaced \(Device or resource busy\)"):
        image()
