"""Where a repository comes from: a folder, or a Git URL with a ref."""

import os
import subprocess
import tempfile
import textwrap
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import pytest

from flops_fl.errors import RepositoryError, UsageError
from flops_fl.repo.contract import ManagedModel
from flops_fl.repo.source import checkout, checkout_of, split_ref
from tests.repo.good import replaced


@pytest.mark.parametrize(
    ("source", "url", "ref"),
    [
        ("https://h/a/b.git", "https://h/a/b.git", "HEAD"),
        ("https://h/a/b.git@main", "https://h/a/b.git", "main"),
        ("https://h/a/b@feature/x", "https://h/a/b", "feature/x"),
        ("https://me:pw@h/a/b", "https://me:pw@h/a/b", "HEAD"),
        ("https://me:pw@h/a/b@v1", "https://me:pw@h/a/b", "v1"),
        ("git@h:a/b.git", "git@h:a/b.git", "HEAD"),
        ("git@h:a/b.git@v1", "git@h:a/b.git", "v1"),
        ("file:///x/y@v1", "file:///x/y", "v1"),
        ("https://h/a/b.git@release@2", "https://h/a/b.git", "release@2"),
        ("https://me:pw@h/@scope/b@v1", "https://me:pw@h/@scope/b", "v1"),
    ],
)
def test_a_ref_stands_behind_the_first_at(source, url, ref):
    assert split_ref(source) == (url, ref)


def _git(folder, *arguments):
    identity = ["-c", "user.name=a", "-c", "user.email=a@b"]
    done = subprocess.run(
        ["git", "-C", folder, *identity, *arguments], check=True, capture_output=True, text=True
    )
    return done.stdout.strip()


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


@pytest.fixture
def origin(repo):
    folder = repo()
    _git(folder, "init", "-q", "-b", "main")
    commits = []
    for count in (4, 8):
        text = textwrap.dedent(replaced("return 4", f"return {count}"))
        (folder / "model_manager.py").write_text(text)
        _git(folder, "add", ".")
        _git(folder, "commit", "-qm", str(count))
        commits.append(_git(folder, "rev-parse", "HEAD"))
    _git(folder, "tag", "old", commits[0])
    return folder, commits


def test_a_url_is_cloned_and_its_commit_recorded(origin):
    folder, (old, new) = origin
    for ref, commit, count in [("", new, 8), ("@old", old, 4), (f"@{old}", old, 4)]:
        with checkout(f"file://{folder}{ref}") as repo:
            assert repo.commit == commit
            assert ManagedModel(repo.path).fit() == count
            cloned = repo.path
        assert not cloned.exists()


def test_a_folders_commit_and_changes_are_recorded(origin):
    folder, (_, new) = origin
    with (
        pytest.raises(UsageError, match=rf"@v9 is for Git URLs.*{folder}, or file://{folder}@v9"),
        checkout(f"{folder}@v9"),
    ):
        pass
    with checkout(str(folder)) as repo:
        assert repo.commit == new
    (folder / "runs" / "model").mkdir(parents=True)
    (folder / "runs" / "model" / "result.json").write_text("{}")
    with checkout(str(folder)) as repo:
        assert repo.commit == new  # the results of a run in the repository are no change of it
    (folder / "more.py").write_text("")
    with checkout(str(folder)) as repo:
        assert repo.commit == f"{new}+changes"


@pytest.mark.parametrize(
    "reason",
    [
        "Host key verification failed.",
        "ERROR: Repository not found.",
        "git@github.com: Permission denied (publickey).",
        "",
    ],
)
def test_the_reason_why_ssh_fails_is_not_cut_off(tmp_path, monkeypatch, reason):
    ssh = tmp_path / "ssh"
    ssh.write_text(f"#!/bin/sh\n[ -z '{reason}' ] || echo '{reason}' >&2\nexit 255\n")
    ssh.chmod(0o755)
    monkeypatch.setenv("GIT_SSH", str(ssh))
    monkeypatch.setenv("LANGUAGE", "de")  # where Git speaks it
    with pytest.raises(UsageError) as failed, checkout("git@example.org:x/y.git"):
        pass
    assert f"({reason or 'fatal: Could not read from remote repository.'}): " in str(failed.value)


def test_a_source_that_cannot_be_had_is_a_usage_error(origin, tmp_path):
    folder, _ = origin
    for source in (f"file://{folder}@nowhere", f"file://{tmp_path}/none.git", "not/here"):
        with pytest.raises(UsageError), checkout(source):
            pass
    said = rf"'{tmp_path}/none.git' does not appear to be a git repository\): check the address"
    with pytest.raises(UsageError, match=said), checkout(f"file://{tmp_path}/none.git"):
        pass
    with pytest.raises(UsageError) as failed, checkout("http://me:t0ken@127.0.0.1:9/a.git@v1"):
        pass
    assert "http://127.0.0.1:9/a.git" in str(failed.value)
    assert "t0ken" not in str(failed.value)
    (folder / "model_manager.py").unlink()
    with pytest.raises(RepositoryError, match="no model_manager.py"), checkout(str(folder)):
        pass


def test_a_full_disk_is_not_taken_for_a_wrong_address(origin, small_disk, monkeypatch):
    folder, (old, _) = origin
    (folder / "data.bin").write_bytes(os.urandom(1 << 20))
    _git(folder, "add", ".")
    _git(folder, "commit", "-qm", "data")
    small = small_disk(512)
    monkeypatch.setattr(tempfile, "tempdir", str(small))
    said = rf"cannot be written below {small} \(.*\): make room there, or set TMPDIR"
    for ref in ("", f"@{_git(folder, 'rev-parse', 'HEAD')}"):
        with pytest.raises(UsageError, match=said), checkout(f"file://{folder}{ref}"):
            pass
    _git(folder, "commit", "-qm", "more", "--allow-empty")
    _git(folder, "rm", "-q", "data.bin")
    _git(folder, "commit", "-qm", "none")
    with (
        pytest.raises(UsageError, match=said),
        checkout_of(str(folder), _git(folder, "rev-parse", "HEAD~1")),
    ):
        pass
    with checkout_of(str(folder), old) as repo:
        assert repo.commit == old


def test_a_server_that_only_has_files_is_read(origin, tmp_path):
    folder, (old, new) = origin
    _git(tmp_path, "clone", "-q", "--bare", str(folder), str(tmp_path / "served.git"))
    _git(tmp_path / "served.git", "update-server-info")
    serve = partial(Quiet, directory=tmp_path)
    with ThreadingHTTPServer(("127.0.0.1", 0), serve) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/served.git"
        for ref, commit in [("", new), ("@old", old), ("@main", new), (f"@{old}", old)]:
            with checkout(f"{url}{ref}") as repo:
                assert repo.commit == commit
        with pytest.raises(UsageError, match="couldn't find remote ref nowhere.*check the address"):
            checkout(f"{url}@nowhere").__enter__()
        server.shutdown()


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("fatal: write error: No space left on device", "set TMPDIR to another folder"),
        ("remote: fatal: write error: No space left on device", "check the address"),
    ],
)
def test_whose_disk_is_full_is_told_apart(tmp_path, monkeypatch, line, said):
    ssh = tmp_path / "ssh"
    ssh.write_text(f"#!/bin/sh\necho '{line}' >&2\nexit 255\n")
    ssh.chmod(0o755)
    monkeypatch.setenv("GIT_SSH", str(ssh))
    with pytest.raises(UsageError, match=said), checkout("git@example.org:x/y.git"):
        pass
