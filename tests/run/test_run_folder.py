"""Which folder a run gets: only a folder that the user named is overwritten."""

import json
from contextlib import ExitStack
from dataclasses import replace

import numpy as np
import pytest

from flops_fl.core.observer import RunInfo
from flops_fl.core.plan import State
from flops_fl.errors import UsageError
from flops_fl.options.reading import build
from flops_fl.options.training import TrainingOptions
from flops_fl.repo.source import Checkout
from flops_fl.run.checkpoint import load_checkpoint
from flops_fl.run.folder import run_folder
from flops_fl.run.journal import FolderJournal
from flops_fl.run.result import result_document, write_result
from flops_fl.types import Best, RoundRecord


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


INFO = RunInfo(
    project_id="p", run_id="r", repo_source="s", repo_commit=None, strategy="FedAvg", seed=0,
    rounds=3,
)  # fmt: skip


def played(folder, project="model", source="git@host:a/model.git", rounds=1, status="completed"):
    """A run in a folder, as its process leaves it."""
    info = replace(INFO, project_id=project, repo_source=source)
    journal, state = FolderJournal(folder, info), State(parameters=[np.ones(2)])
    journal.begin(state)
    for number in range(1, rounds + 1):
        record = RoundRecord(
            round=number, seconds=1.0, fit_seconds=1.0, evaluate_seconds=0.5, loss=None,
            accuracy=0.5, examples=9, bytes_down=1, bytes_up=2, learners=("a",),
        )  # fmt: skip
        state = State(parameters=state.parameters, round=number, history=(*state.history, record))
        journal.write(state)
    write_result(folder / "result.json", result_document(info, state, status=status))
    return folder


def chosen(project="model", source="git@host:a/model.git", **said):
    with run_folder(build(TrainingOptions, said), project, source) as folder:
        return folder


def test_each_run_gets_a_folder_of_its_own(here):
    for name in ("model", "model-2", "model-3"):
        assert chosen() == here / "runs" / name
        assert not list((here / "runs").glob(name))  # nothing has begun in it
        played(here / "runs" / name)
    assert chosen("other") == here / "runs" / "other"


def test_another_repository_of_the_same_name_is_not_in_the_way(here):
    played(here / "runs" / "model", rounds=2, status="interrupted")
    assert chosen(source="git@host:b/model.git") == here / "runs" / "model-2"
    with pytest.raises(UsageError, match="runs/model holds an unfinished run.*--resume.*--fresh"):
        chosen()


def test_a_folder_that_is_named_otherwise_is_the_same(here):
    (here / "model").mkdir()
    played(here / "runs" / "model", source="model", status="failed")
    for said in (str(here / "model"), "./model", "model/"):
        assert chosen(source=said, resume=True) == here / "runs" / "model"


def test_an_unfinished_run_is_gone_on_with_or_stays(here):
    unfinished = played(here / "runs" / "model", status="running")
    with pytest.raises(UsageError, match="unfinished"):
        chosen()
    assert chosen(resume=True) == unfinished
    fresh = chosen(fresh=True)
    assert fresh == here / "runs" / "model-2"
    assert (unfinished / "checkpoints" / "000001.npz").exists()
    played(fresh)
    assert chosen() == here / "runs" / "model-3"  # the newest is finished
    assert chosen(resume=True) == unfinished


def test_without_an_unfinished_run_the_newest_is_gone_on_with(here):
    """With more rounds, or to deliver what MLflow has missed."""
    assert chosen(resume=True) == here / "runs" / "model"
    for name in ("model", "model-2", "model-10"):
        played(here / "runs" / name)
    assert chosen(resume=True) == here / "runs" / "model-10"


@pytest.mark.parametrize("status", ["running", "failed", "interrupted"])
def test_a_run_that_never_had_a_round_is_not_unfinished(here, status):
    never = played(here / "runs" / "model", rounds=0, status=status)
    for said in ({}, {"fresh": True}, {"resume": True}, {"output": str(never)}):
        assert chosen(**said) == never


def test_an_output_that_is_named_is_that_folder(here):
    out = here / "out"
    assert chosen(output="out") == out
    played(out)
    assert chosen(output="out", fresh=True) == chosen(output="out", resume=True) == out


def test_an_unfinished_run_is_replaced_only_if_that_is_asked_for(here):
    out = played(here / "out", rounds=2, status="failed")
    said = "out holds an unfinished run.*--resume.*--fresh.*another --output"
    with pytest.raises(UsageError, match=said):
        chosen(output="out")
    assert chosen(output="out", fresh=True) == chosen(output="out", resume=True) == out


def test_the_results_of_a_finished_run_are_set_aside(here):
    """Its model may be the work of days."""
    out = played(here / "out")
    first = (out / "result.json").read_bytes()
    (out / "model-last.npz").write_bytes(b"first")
    assert chosen(output="out") == out  # one that does not begin leaves all in place
    assert (out / "result.json").read_bytes() == first
    played(out, rounds=2)
    assert (out / "earlier" / "r" / "result.json").read_bytes() == first
    assert (out / "earlier" / "r" / "model-last.npz").read_bytes() == b"first"
    assert not (out / "model-last.npz").exists()
    assert load_checkpoint(out).state.round == 2


def test_fresh_deletes_the_results_of_a_finished_run(here):
    out = played(here / "out")
    FolderJournal(out, INFO, fresh=True).begin(State(parameters=[np.ones(2)]))
    assert not (out / "earlier").exists()


def test_a_folder_that_was_there_stays_even_if_nothing_begins(here):
    (here / "out").mkdir()
    chosen(output="out")
    assert (here / "out").is_dir()


def test_where_nothing_begins_nothing_is_left(here):
    chosen()
    assert list(here.iterdir()) == []
    (here / "runs").mkdir()
    chosen()
    assert [path.name for path in here.iterdir()] == ["runs"]


def test_two_processes_never_share_a_folder(here):
    with ExitStack() as stack:
        options = build(TrainingOptions, {})
        first = stack.enter_context(run_folder(options, "model", "s"))
        played(first, source="s", status="running")
        second = stack.enter_context(run_folder(options, "model", "s"))
        assert (first.name, second.name) == ("model", "model-2")
        for said in ({"output": str(first), "fresh": True}, {"output": str(first)}):
            with pytest.raises(UsageError, match="another process works in runs/model"):
                chosen(**said)
    with pytest.raises(UsageError, match="unfinished"):  # its process has gone
        chosen(source="s")


def test_a_folder_that_cannot_be_used_is_said(here):
    (here / "file").touch()
    with pytest.raises(UsageError, match="cannot be made"):
        chosen(output="file/run")
    (here / "runs").touch()
    with pytest.raises(UsageError, match="runs/model cannot be made"):
        chosen()


@pytest.mark.parametrize("project", ["..", ".", "../up", ".hidden", "a/b", ""])
def test_a_project_is_no_path(project):
    with pytest.raises(UsageError, match="--project-id"):
        build(TrainingOptions, {"project_id": project})


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("examples/numpy_minimal/", "numpy_minimal"),
        ("/", "project"),
        ("a b/c d", "c-d"),
        (".hidden", "hidden"),
        ("https://example.org/me/model.git@v1", "model"),
        ("https://user@example.org/me/model@feature/x", "model"),
        ("git@example.org:model.git", "model"),
        ("ssh://git@example.org/me/deep/model.git/", "model"),
    ],
)
def test_a_repositorys_name_names_its_project(here, source, name):
    assert Checkout(here, source, None).name == name


def test_the_folder_one_stands_in_has_a_name(here):
    assert Checkout(here, ".", None).name == here.name


@pytest.mark.slow
def test_the_same_command_twice_and_a_namesake(here, run_cli):
    """Real processes, as the examples' page has them."""
    from tests.conftest import NUMPY, ROOT

    namesake = here / "elsewhere" / "numpy_minimal"
    namesake.mkdir(parents=True)
    for path in NUMPY.glob("*.*"):
        (namesake / path.name).write_bytes(path.read_bytes())
    for repo in (NUMPY, NUMPY, namesake):
        code, _, err = run_cli(
            "flops_fl", "simulate", repo, "--learners", 2, "--rounds", 1, "--no-tracking",
            cwd=here, env={"PYTHONPATH": str(ROOT)},
        )  # fmt: skip
        assert code == 0, err
        name = "numpy_minimal" + ("" if "in runs/numpy_minimal:" in err else "-2")
        assert f"in runs/{name}: result.json" in err or "in runs/numpy_minimal-3: " in err
    folders = sorted((here / "runs").iterdir())
    assert [f.name for f in folders] == ["numpy_minimal", "numpy_minimal-2", "numpy_minimal-3"]
    results = [json.loads((folder / "result.json").read_text()) for folder in folders]
    assert len({result["run_id"] for result in results}) == 3
    assert {result["status"] for result in results} == {"completed"}
    assert results[2]["repo"]["source"] == str(namesake)


def test_what_somebody_else_has_put_beside_checkpoints_stays_and_changes_nothing(here):
    strays = ["999997.json", "999998.json", "999999.json", "zzz.json", "notes.txt", "\u00b2.json"]
    folder = here / "run"
    (folder / "checkpoints" / "999996.json").mkdir(parents=True)
    (folder / "checkpoints" / "old").mkdir()
    for name in strays:
        (folder / "checkpoints" / name).write_text("{}")
    played(folder, rounds=5)
    names = {path.name for path in (folder / "checkpoints").iterdir()}
    ours = {f"{number:06d}.{kind}" for number in (3, 4, 5) for kind in ("json", "npz")}
    # A run that starts anew takes what looks like a checkpoint away: nothing may go on with it.
    assert names == ours | {"999996.json", "old", "zzz.json", "notes.txt", "\u00b2.json"}
    for name in strays:  # others come in the middle of a run
        (folder / "checkpoints" / name).write_text("{}")
    assert load_checkpoint(folder).state.round == 5


def test_a_best_model_that_cannot_be_written_is_not_that_of_another_round(here):
    info = RunInfo(
        project_id="p", run_id="r", repo_source="s", repo_commit=None, strategy="FedAvg", seed=0,
        rounds=3,
    )  # fmt: skip
    folder, best = here / "run", here / "run" / "model-best.npz"
    journal, state = FolderJournal(folder, info), State(parameters=[np.ones(2)])
    journal.begin(state)
    for number in (1, 2):
        state = State(
            parameters=[np.full(2, number)], round=number,
            best=Best(round=number, loss=None, accuracy=0.5),
        )  # fmt: skip
        if number == 2:
            (folder / "model-best.npz.part").mkdir()
        journal.write(state)
        assert best.exists() == (number == 1)
    assert not journal.secure(state)
    (folder / "model-best.npz.part").rmdir()
    assert journal.secure(state)
    assert best.exists()


@pytest.mark.parametrize(
    "name", ["..", ".", "a/b", "/etc", "../x", ".hidden", "", "a\nb", "x" * 129]
)
def test_a_project_is_named_within_the_folder_of_runs(name):
    with pytest.raises(UsageError, match="--project-id"):
        build(TrainingOptions, {"project_id": name})
