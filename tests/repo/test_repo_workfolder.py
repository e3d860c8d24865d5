"""Where a repository's code runs: it reads the repository and writes to its own folder."""

import os
from pathlib import Path

import pytest

from flops_fl.errors import UsageError
from flops_fl.repo import workfolder
from flops_fl.repo.loader import Workspace
from flops_fl.repo.workfolder import WorkFolders

LARGE = workfolder.SMALL + 1


@pytest.fixture
def repository(tmp_path):
    folder = tmp_path / "repo"
    for name in ("configs/train.yaml", "logs/old.txt", "images/cat.png", "images/dog.png"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)
    (folder / "large.bin").write_bytes(b"x" * LARGE)
    (folder / ".git").mkdir()
    (folder / ".git" / "HEAD").write_text("ref")
    (folder / "linked").symlink_to(folder / "configs")
    return folder


@pytest.fixture
def temporary(tmp_path, monkeypatch):
    """Where temporary folders are made."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    return folder


def contents(folder):
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def test_what_is_in_the_repository_is_read_by_its_relative_name(repository, temporary):
    here = Path.cwd()
    with Workspace(repository).active():
        assert Path("configs/train.yaml").read_text() == "configs/train.yaml"
        assert Path("linked/train.yaml").read_text() == "configs/train.yaml"
        assert Path(".git/HEAD").read_text() == "ref"
        assert Path("large.bin").stat().st_size == LARGE
        assert Path("large.bin").is_symlink()
        assert not Path("configs/train.yaml").is_symlink()
    assert Path.cwd() == here


def test_what_is_written_stays_with_whoever_writes_it(repository, temporary, caplog):
    caplog.set_level("INFO", "flops_fl")
    before, folders = contents(repository), WorkFolders(repository)
    reader, *workspaces = (Workspace(repository, work=folders.of(name)) for name in "rab")
    for workspace in workspaces:
        with reader.active():
            assert Path("logs/old.txt").read_text() == "logs/old.txt"
        with workspace.active():
            assert not Path("made").exists()
            Path("made").write_text("new")
            Path("logs/old.txt").write_text("other")  # a copy
            Path("logs/deep").mkdir()
            Path("__pycache__").mkdir()
            Path("__pycache__/script.pyc").write_text("code")
    with workspaces[0].active():
        assert Path("made").read_text() == "new"  # from one task to the next
    for workspace in workspaces:
        workspace.close()
    folders.close()
    assert contents(repository) == before
    for folder in temporary.iterdir():
        assert contents(folder) == {"made", "logs/old.txt"}
        assert str(folder) in caplog.text


def test_what_is_left_goes_where_it_is_wanted_under_the_learners_name(repository, tmp_path):
    keep = tmp_path / "run" / "learners"
    folders = WorkFolders(repository, keep)
    for name in ("a/1", "reads", "a/1"):
        workspace = Workspace(repository, work=folders.of(name))
        with workspace.active():
            assert not Path("made").exists()
            assert Path.cwd().is_relative_to(keep)
            if name != "reads":
                Path("made").touch()
        workspace.close()
    folders.close()
    assert contents(keep) == {"a_1/made", "a_1-2/made"}


def test_learners_that_write_nothing_share_a_folder(repository, temporary):
    folders, used = WorkFolders(repository), []
    for name in ("a", "b", "c"):
        with Workspace(repository, work=folders.of(name)).active():
            used.append(Path.cwd())
            if name == "b":
                Path("large.bin").unlink()  # a change, too
    assert used[0] == used[1] != used[2]


@pytest.mark.parametrize("keep", [False, True])
def test_where_nothing_was_written_nothing_is_left(repository, temporary, tmp_path, keep, caplog):
    folders = WorkFolders(repository, tmp_path / "keep" if keep else None)
    workspace = Workspace(repository, work=folders.of("a"))
    with workspace.active():
        Path("configs/train.yaml").read_text()
        Path("large.bin").unlink()  # the link, not the file
    del workspace, folders  # as when the process ends
    assert not list(temporary.iterdir())
    assert not (tmp_path / "keep").exists()
    assert (repository / "large.bin").exists()
    assert not caplog.text


def test_a_large_file_that_is_written_to_is_named_once(repository, temporary, caplog):
    workspace = Workspace(repository)
    for text in (b"a", b"bc"):
        with workspace.active():
            Path("large.bin").write_bytes(text)
    assert caplog.text.count("large.bin") == 1
    assert "another name" in caplog.text


def test_a_folder_with_many_entries_is_a_link(repository, temporary, monkeypatch):
    monkeypatch.setattr(workfolder, "ENTRIES", 9)
    for number in range(9):
        (repository / "images" / f"{number}.png").touch()
    with Workspace(repository).active():
        assert Path("images").is_symlink()
        assert not Path("configs").is_symlink()
        assert len(list(Path("images").iterdir())) == 11


def test_copies_have_a_limit_together(repository, temporary, monkeypatch):
    monkeypatch.setattr(workfolder, "COPIED", 30)
    with Workspace(repository).active():
        links = [path.is_symlink() for path in Path().rglob("*.*") if path.suffix != ".bin"]
        assert {True, False} == set(links)
        assert Path("images/dog.png").read_text() == "images/dog.png"


def test_results_within_the_repository_are_not_mirrored(repository):
    keep = repository / "runs" / "one" / "learners"
    (repository / "runs" / "one").mkdir(parents=True)
    (repository / "runs" / "one" / "model.npz").touch()
    with Workspace(repository, work=WorkFolders(repository, keep).of("a")).active():
        assert not list(Path("runs").iterdir())


def test_a_repository_that_is_read_only_can_be_written_over(repository, temporary):
    (repository / "configs" / "train.yaml").chmod(0o444)
    with Workspace(repository).active():
        assert os.stat("configs/train.yaml").st_mode & 0o200


def test_a_child_process_does_not_end_its_parents_folder(repository, temporary):
    workspace = Workspace(repository)
    with workspace.active():
        if (child := os.fork()) == 0:
            workspace.close()
            os._exit(0)
        os.waitpid(child, 0)
        assert Path("configs/train.yaml").exists()


def test_where_no_folder_can_be_made_it_is_said(repository, monkeypatch, tmp_path):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "not-there"))
    with pytest.raises(UsageError, match="not-there .*TMPDIR"), Workspace(repository).active():
        pass


def test_an_empty_log_of_an_aggregator_is_not_worth_a_folder(repository, temporary, caplog):
    caplog.set_level("INFO", "flops_fl")
    workspace = Workspace(repository)
    with workspace.active():
        Path("train.log").touch()
        Path("made").mkdir()
        Path("made/too.log").touch()
    workspace.close()
    assert list(temporary.iterdir()) == []
    assert caplog.messages == []
