"""A run's repository is found at its commit, wherever it is now."""

import json
import shutil
import subprocess

import pytest

import flops_fl
from flops_fl.errors import UsageError
from flops_fl.use.model import read_run
from tests.conftest import NUMPY
from tests.private_git import LOGIN, private_git


def git(repo, *words):
    words = ["git", "-C", str(repo), "-c", "user.name=t", "-c", "user.email=t@t", *words]
    done = subprocess.run(words, check=True, capture_output=True, text=True)
    return done.stdout.strip()


def committed(repo):
    git(repo, "init", "-q", "-b", "main")
    git(repo, "add", ".")
    git(repo, "commit", "-q", "-m", "now")
    return git(repo, "rev-parse", "HEAD")


@pytest.fixture
def run_of_repo(run, tmp_path):
    """A run, and its repository: a folder within a Git work tree."""
    repo = tmp_path / "work" / "repo"
    shutil.copytree(NUMPY, repo, ignore=shutil.ignore_patterns("__pycache__"))
    commit = committed(tmp_path / "work")
    shutil.copytree(run, tmp_path / "run")
    result = json.loads((run / "result.json").read_text())
    result["repo"] = {"source": str(repo), "commit": commit}
    (tmp_path / "run" / "result.json").write_text(json.dumps(result))
    return tmp_path / "run", repo, commit


def test_the_repository_is_the_runs_wherever_it_is_now(run_of_repo, caplog, tmp_path):
    run, repo, commit = run_of_repo
    caplog.set_level("INFO", "flops_fl")
    assert flops_fl.load(run).bias.shape == (10,)
    assert caplog.messages == []
    manager = repo / "model_manager.py"
    manager.write_text(manager.read_text().replace("CLASSES = 8 * 8, 10", "CLASSES = 8 * 8, 11"))
    assert flops_fl.load(run).bias.shape == (10,)  # the commit's
    said = f"{repo} is at {commit}+changes: the run's commit {commit} is checked out"
    assert caplog.messages == [said]
    later = committed(repo.parent)
    moved = repo.rename(repo.parent / "moved")
    with pytest.raises(UsageError, match=r"is no folder here: say where it is with --repo"):
        flops_fl.load(run)
    committed(moved.parent)
    with pytest.raises(UsageError, match="Git cannot fetch"):  # nor was it there at that commit
        flops_fl.load(run, repo=f"file://{moved}")
    clone = tmp_path / "clone"
    git(tmp_path, "clone", "-q", repo.parent, clone)
    git(clone, "checkout", "-q", later)
    assert flops_fl.load(run, repo=str(clone / "repo")).bias.shape == (10,)
    assert f"{later}: the run's" in caplog.messages[-1]


def test_where_the_commit_cannot_be_had_a_warning_says_so(run_of_repo, caplog):
    run, repo, commit = run_of_repo
    shutil.rmtree(repo.parent / ".git")
    assert flops_fl.load(run).bias.shape == (10,)
    assert caplog.messages == [
        f"{repo} is used as it is now (in no Git work tree): the run's files ({commit}) are no "
        "commit that it has"
    ]
    result = json.loads((run / "result.json").read_text())
    other = committed(repo)
    result["repo"]["commit"] = f"{other}+changes"
    (run / "result.json").write_text(json.dumps(result))
    flops_fl.load(run)
    assert f"({other}): the run's files ({other}+changes)" in caplog.messages[-1]


def test_lines_of_an_older_commit_open_the_run(run_of_repo):
    """The torch format is the one whose lines need the repository; here without torch."""
    run, repo, _ = run_of_repo
    found = read_run(run, best=True)
    with found.repository(None) as at:
        assert found.home(None, at) == f"flops_fl.open_repository({str(repo)!r})"
    (repo / "more.py").write_text("")
    with found.repository(None) as at:
        line = found.home(None, at)
    assert line == f"flops_fl.load({str(run)!r})"
    assert eval(line, {"flops_fl": flops_fl}).bias.shape == (10,)


def test_a_run_without_the_model_that_is_asked_for_says_which_it_has(run, tmp_path):
    shutil.copytree(run, tmp_path / "run")
    (tmp_path / "run" / "model-best.npz").unlink()
    with pytest.raises(
        UsageError, match=r"no model-best.npz \(no round.*take the last model: --last"
    ):
        flops_fl.load(tmp_path / "run")
    (tmp_path / "run" / "model-last.npz").unlink()
    shutil.rmtree(tmp_path / "run" / "checkpoints")  # whose newest would do
    with pytest.raises(UsageError, match=r"no model-last.npz \(its status is completed"):
        flops_fl.load(tmp_path / "run", best=False)


def test_a_private_repository_is_had_with_a_login(run_of_repo, tmp_path, monkeypatch):
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", "/dev/null")  # no credential helper of the user's
    run, repo, _ = run_of_repo
    commit = committed(repo)
    git(tmp_path, "clone", "-q", "--bare", repo, tmp_path / "served" / "mlp.git")
    result = json.loads((run / "result.json").read_text())
    with private_git(tmp_path / "served") as server:
        url = f"{server}/mlp.git"
        result["repo"] = {"source": url, "commit": commit}
        (run / "result.json").write_text(json.dumps(result))
        with pytest.raises(UsageError, match="could not read Username.*private.*--repo") as failed:
            flops_fl.load(run)
        with pytest.raises(UsageError, match=r"Authentication failed.*user and token") as wrong:
            flops_fl.load(run, repo=url.replace("://", "://me:wrong1@"))
        assert "wrong1" not in str(failed.value) + str(wrong.value)
        assert flops_fl.load(run, repo=url.replace("://", f"://{LOGIN}@")).bias.shape == (10,)
