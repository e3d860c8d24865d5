"""Temporary folders: gone at the end, and after a kill when the next one is made."""

import subprocess
import sys
import tempfile

import pytest

from flops_fl.cli import run
from flops_fl.errors import UsageError
from flops_fl.process.temporary import temporary_folder
from tests.conftest import NUMPY

MAKES_ONE = """
import sys, time
from pathlib import Path
from flops_fl.process.temporary import temporary_folder

with temporary_folder("flops-fl-data-", Path(sys.argv[1])) as folder:
    (folder / "rows").write_text("1")
    print(folder, flush=True)
    time.sleep(600)
"""


@pytest.fixture
def maker(tmp_path):
    """A process that has a temporary folder with a file in it."""
    started = subprocess.Popen(
        [sys.executable, "-c", MAKES_ONE, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    started.folder = tmp_path / started.stdout.readline().strip()
    yield started
    started.kill()
    started.communicate()


def test_what_a_killed_process_has_left_goes_with_the_next_one(maker, tmp_path):
    with temporary_folder("flops-fl-data-", tmp_path):
        assert (maker.folder / "rows").exists()  # its process lives
    maker.kill()
    maker.wait()
    assert (maker.folder / "rows").exists()
    with temporary_folder("flops-fl-repo-", tmp_path):
        assert maker.folder.exists()  # it is of another kind
    with temporary_folder("flops-fl-data-", tmp_path) as folder:
        assert [*tmp_path.iterdir()] == [folder]
    assert not [*tmp_path.iterdir()]


def test_two_of_a_process_stay_and_a_link_is_not_followed(tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "flops-fl-data-link").symlink_to(tmp_path / "mine")
    with (
        temporary_folder("flops-fl-data-", tmp_path) as one,
        temporary_folder("flops-fl-data-", tmp_path) as two,
    ):
        assert one.is_dir()
        assert two.is_dir()
    assert (tmp_path / "mine").is_dir()
    assert not one.exists()
    assert not two.exists()


def test_where_none_can_be_made_a_sentence_says_what_to_do(monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", "/proc/self")  # which nobody can write, not even root
    said = r"no folder can be made in /proc/self \(.*\): make room there, or set TMPDIR to another"
    repo = str(NUMPY)
    for line in (
        ["run", repo, "--", "true"],
        ["check", repo],
        ["simulate", repo, "--learners", "1", "--data", "digits"],
        ["deps", f"file://{repo}"],
    ):
        with pytest.raises(UsageError, match=said):
            run(line)
