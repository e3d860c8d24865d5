"""A repository outside of a federation: its ModelManager, and its own program with data."""

import gc
import os
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

import flops_fl
from flops_fl.actors.learner import build_learner
from flops_fl.errors import DataError, RepositoryError, UsageError
from tests.conftest import NUMPY, ROOT, unstamped, wait_until

OWN = """
    def note(self):
        open("note.txt", "w").close()
        import helper
        return helper.NAME, os.getcwd()


if __name__ == "__main__":
    import sys
    manager = ModelManager()
    manager.set_model_data()
    print(len(manager.train[0]), manager.train[0].sum(), sys.argv[1:])
    open("written.txt", "w").close()
    sys.exit(7)
"""


@pytest.fixture
def repo(tmp_path):
    """The NumPy example, with a method and a program of its own."""
    folder = tmp_path / "own"
    shutil.copytree(NUMPY, folder, ignore=shutil.ignore_patterns("__pycache__"))
    text = (folder / "model_manager.py").read_text()
    (folder / "model_manager.py").write_text("import os\n" + text + OWN)
    (folder / "helper.py").write_text("NAME = 'helper'")
    return folder


def test_the_object_is_the_one_that_a_learner_has(digits):
    manager = flops_fl.open_repository(NUMPY, data=digits / "part-0", learner="l0", seed=3)
    theirs = build_learner(NUMPY, "l0", digits / "part-0", seed=3).model.manager
    assert np.array_equal(manager.train[0], theirs.train[0])
    before = manager.evaluate_model()
    assert manager.fit_model() == len(theirs.train[0])
    assert manager.evaluate_model()[0] < before[0]
    manager.weights = manager.weights * 0  # a plain object
    assert not manager.get_model().weights.any()
    assert type(manager).__name__ == "ModelManager"
    tagged = flops_fl.open_repository(NUMPY, data=digits / "part-0", data_tags="digits")
    assert len(tagged.train[0]) == len(theirs.train[0])  # one tag, not six letters


def test_its_methods_run_at_home_and_leave_no_trace(repo, digits, caplog):
    caplog.set_level("INFO", "flops_fl")
    here = os.getcwd()
    with flops_fl.open_repository(repo, data=digits / "part-0") as manager:
        name, inside = manager.note()
        assert name == "helper"
        assert inside != here
        import helper  # within the context

        assert helper.NAME == "helper"
    assert os.getcwd() == here
    assert not (repo / "note.txt").exists()
    assert not {"helper", "model_manager", "data_loading"} & set(sys.modules)
    assert sorted(os.listdir(inside)) == ["note.txt"]
    assert (
        f"files that the repository's code has written in this process are in {inside}"
        in caplog.messages
    )
    shutil.rmtree(inside)


def test_two_repositories_do_not_meet(repo):
    one, other = flops_fl.open_repository(repo), flops_fl.open_repository(NUMPY)
    assert hasattr(one, "note")
    assert not hasattr(other, "note")
    with pytest.raises(DataError, match="there is none: give --data"):
        one.set_model_data()


def test_a_clone_lives_as_long_as_the_object(repo, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    commit(repo)
    manager = flops_fl.open_repository(f"file://{repo}@main")
    assert manager.note()[0] == "helper"  # imported lazily, from the clone
    os.remove(os.path.join(manager.note()[1], "note.txt"))
    del manager
    gc.collect()
    assert not list((tmp_path / "temporary").iterdir())


def commit(repo, message="first"):
    git = ["git", "-C", str(repo), "-c", "user.name=t", "-c", "user.email=t@t"]
    for words in (["init", "-q", "-b", "main"], ["add", "."], ["commit", "-q", "-m", message]):
        subprocess.run([*git, *words], check=True)
    done = subprocess.run([*git, "rev-parse", "HEAD"], check=True, capture_output=True, text=True)
    return done.stdout.strip()


def test_what_cannot_be_opened_is_said_in_a_sentence(repo, digits):
    with pytest.raises(UsageError, match="no ML repository at 'nowhere'"):
        flops_fl.open_repository("nowhere")
    with pytest.raises(DataError, match="nothing does not exist"):
        flops_fl.open_repository(NUMPY, data=digits / "nothing")
    (repo / "model_manager.py").write_text("1 / 0")
    with pytest.raises(RepositoryError, match="ZeroDivisionError"):
        flops_fl.open_repository(repo)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        flops_fl.nothing  # noqa: B018


@pytest.mark.slow
def test_a_program_of_the_users_own_has_the_data_of_a_learner(repo, digits, run_cli):
    code, out, err = run_cli(
        "flops_fl", "run", repo, "--data", digits, "--data-tags", "{id}", "--learner", "digits",
        "--", "python", "model_manager.py", "--epochs", "2",
    )  # fmt: skip
    assert code == 2  # the parts are a level below
    assert unstamped(err).startswith("error: no data files at")
    assert err.count("\n") == 1, err
    code, out, err = run_cli(
        "flops_fl", "run", repo, "--data", digits / "part-0", "--data-tags", "{id}",
        "--learner", "digits", "--", "python", "model_manager.py", "--epochs", "2",
    )  # fmt: skip
    theirs = build_learner(NUMPY, "l0", digits / "part-0").model.manager
    images = theirs.train[0]
    assert (code, err) == (7, "")  # its own exit code
    assert out == f"{len(images)} {images.sum()!s} ['--epochs', '2']\n"
    assert (repo / "written.txt").exists()


def test_what_a_program_in_a_clone_writes_is_kept(repo, digits, run_cli, tmp_path):
    commit(repo)
    (tmp_path / "temporary").mkdir()
    code, _, err = run_cli(
        "flops_fl", "run", f"file://{repo}", "--data", digits / "part-0", "--", "python",
        "model_manager.py", env={"TMPDIR": str(tmp_path / "temporary")},
    )  # fmt: skip
    assert code == 7, err
    (left,) = (tmp_path / "temporary").iterdir()
    assert [path.name for path in left.iterdir()] == ["written.txt"]
    assert f"has written in this process are in {left}" in err


def test_older_names_and_the_users_own_sitecustomize_work(tmp_path, digits, run_cli):
    (tmp_path / "sitecustomize.py").write_text("import builtins; builtins.MINE = 5")
    program = (
        "from flops_utils.flops_learner_files_wrapper import load_ml_data, load_dataset;"
        "print(MINE, len(load_ml_data()), load_dataset().num_rows)"
    )
    code, out, err = run_cli(
        "flops_fl", "run", NUMPY, "--data", digits / "part-0", "--", "python", "-c", program,
        env={"PYTHONPATH": f"{tmp_path}:{ROOT}"},
    )  # fmt: skip
    assert (code, out) == (0, "5 599 599\n"), err


LOAD = "from flops_utils.ml_repo_building_blocks import load_dataset; load_dataset()"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([NUMPY], "no program to run: expected one after --"),
        ([NUMPY, "--", "no-such-program"], "no-such-program cannot be run"),
        (
            [NUMPY, "python", "model_manager.py"],
            "python: not expected; model_manager.py: not expected; the program goes last: -- ",
        ),
        (["nowhere", "--", "true"], "no ML repository at 'nowhere'"),
        ([NUMPY, "--", "python", "-c", LOAD], "there is none: give --data PATH"),
    ],
)  # fmt: skip
def test_what_cannot_run_is_said_in_one_line(run_cli, words, said):
    code, out, err = run_cli("flops_fl", "run", *words)
    assert (code, out) == (2, "")
    assert said in err
    assert err.count("\n") == 1, err


def test_signals_reach_the_program_and_end_it_as_they_would(tmp_path):
    mark = tmp_path / "started"
    program = f"import time; open({str(mark)!r}, 'w').close(); time.sleep(60)"
    with subprocess.Popen(
        [sys.executable, "-m", "flops_fl", "run", NUMPY, "--", "python", "-c", program], cwd=ROOT
    ) as process:
        wait_until(mark.exists)
        process.send_signal(signal.SIGTERM)
        started = time.monotonic()
        assert process.wait(30) == 128 + signal.SIGTERM
        assert time.monotonic() - started < 30


def test_a_signal_that_comes_as_the_program_starts_is_passed_on(run_cli):
    program = "trap 'exit 9' TERM; kill -TERM $PPID; for _ in 1 2 3 4 5; do sleep 1; done"
    code, _, err = run_cli("flops_fl", "run", NUMPY, "--", "sh", "-c", program)
    assert code == 9, err
