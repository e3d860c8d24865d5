"""Learners of another commit, seen before they train."""

import shutil
import subprocess

import pytest

from tests.conftest import NUMPY


def committed(folder, change=""):
    """The NumPy example as a Git repository, with a commit of its own for each `change`."""
    shutil.copytree(NUMPY, folder, ignore=shutil.ignore_patterns("__pycache__"))
    with (folder / "model_manager.py").open("a") as file:
        file.write(change)
    identity = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
    for command in (["init", "-q"], ["add", "."], [*identity, "commit", "-qm", change or "first"]):
        subprocess.run(["git", "-C", folder, *command], check=True)
    return folder


@pytest.mark.slow
def test_a_learner_of_another_commit_is_recorded_and_on_request_refused(
    processes, digits, tmp_path
):
    ours, other = committed(tmp_path / "ours"), committed(tmp_path / "other", "# changed\n")
    options = ["--rounds", 1, "--min-clients", 2]
    aggregator = processes.aggregator(ours, *options)
    processes.learner(ours, digits / "part-0", "same")
    processes.learner(other, digits / "part-1", "changed")
    result = processes.result(aggregator)
    (line,) = [x for x in processes.stderr(aggregator).splitlines() if "--mismatch" in x]
    assert "warning: changed has commit " in line
    own = result["setups"]["aggregator"]
    assert own["commit"] == result["repo"]["commit"]
    assert {"flops-fl", "flwr", "numpy", "python"} <= own["versions"].keys()
    by_name = {group["learners"][0]: group for group in result["setups"]["learners"]}
    assert by_name["same"]["differences"] == []
    assert by_name["changed"]["commit"] not in ("", own["commit"])

    options = ["--rounds", 1, "--min-clients", 1, "--mismatch", "refuse", "--fresh"]
    aggregator = processes.aggregator(ours, *options)
    refused = processes.learner(other, digits / "part-1", "changed")
    processes.finish(refused, code=5)
    assert "this learner has commit" in processes.stderr(refused)
    processes.learner(ours, digits / "part-0", "same")
    assert processes.result(aggregator)["rounds"][0]["learners"] == ["same"]
