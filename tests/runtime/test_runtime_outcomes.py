"""If user code fails, both ends report it once, with a traceback and an exit code."""

import json
import shutil

import pytest

from flops_fl.actors.outcomes import Outcomes
from flops_fl.errors import DataError, FederationError, RepositoryError
from flops_fl.wire.messages import Goodbye
from tests.conftest import NUMPY, unstamped

FAILED, COMPLETED = Goodbye(reason="failed: no quorum", failed=True), Goodbye(reason="completed")


def outcomes(*tasks, hosted=False):
    """Of tasks (learner, stage, error or None)."""
    seen = Outcomes(hosted=hosted)
    for learner, stage, error in tasks:
        try:
            with seen.of(learner, stage):
                if error:
                    raise error
        except type(error):
            pass
    return seen


def test_a_learner_whose_fits_all_fail_is_at_fault_whatever_becomes_of_the_project():
    bug = RepositoryError("bug", stage="fit_model", traceback="Trace")
    never = outcomes(("a", "fit", None), ("b", "fit", bug), ("b", "evaluate", None))
    for goodbye in (FAILED, COMPLETED):
        error = never.verdict(goodbye)
        assert isinstance(error, RepositoryError)
        assert str(error) == "b failed in each fit that it was asked for. The last: bug"
    late = outcomes(("b", "fit", bug), ("b", "fit", None), ("b", "evaluate", bug))
    assert late.verdict(COMPLETED) is None
    assert isinstance(late.verdict(FAILED), FederationError)
    assert isinstance(outcomes(("b", "fit", DataError("gone"))).verdict(FAILED), DataError)
    assert isinstance(outcomes(("b", "evaluate", bug)).verdict(COMPLETED), RepositoryError)


def test_beside_its_aggregator_a_learner_has_nothing_to_say(monkeypatch):
    monkeypatch.setattr("flops_fl.actors.outcomes.log", None)
    bug = RepositoryError("bug", stage="fit_model", traceback="Trace")
    assert outcomes(("a", "fit", bug), hosted=True).verdict(FAILED) is None
    with pytest.raises(AttributeError):
        outcomes(("a", "fit", bug))


@pytest.mark.slow
def test_a_bug_of_all_learners_is_seen_once_on_each_side_and_in_each_exit_code(
    processes, digits, run_cli, tmp_path
):
    repo = tmp_path / "bug"
    shutil.copytree(NUMPY, repo, ignore=shutil.ignore_patterns("__pycache__"))
    source = (repo / "model_manager.py").read_text()
    head, _, tail = source.partition("def fit_model(self):")
    assert tail
    bug = 'def fit_model(self):\n        {}["labels"]'
    (repo / "model_manager.py").write_text(head + bug + tail)

    aggregator = processes.aggregator(repo, "--rounds", 2, "--min-clients", 2)
    learners = [processes.learner(repo, digits / f"part-{n}", f"l{n}") for n in range(2)]
    result = processes.result(aggregator, code=4)
    said = "2 learners (l0, l1): ModelManager.fit_model failed: KeyError: 'labels'"
    assert said in result["error"]
    assert len(result["failed_round"]["failures"]) == 2
    assert result["rounds"] == []
    for learner in learners:
        processes.finish(learner, code=3)
    for process in (aggregator, *learners):
        assert processes.stderr(process).count('{}["labels"]') == 1
    assert "failed in each fit" in processes.stderr(learners[0]).splitlines()[-1]

    options = ["--learners", 10, "--no-tracking", "--output", tmp_path / "simulated"]
    code, _, err = run_cli("flops_fl", "simulate", repo, *options)
    assert code == 4
    assert err.count('{}["labels"]') == 1
    assert err.count("error: ") == 1


def test_a_broken_dependency_file_is_told_before_anything_starts(run_cli, tmp_path):
    repo = tmp_path / "repo"
    shutil.copytree(NUMPY, repo, ignore=shutil.ignore_patterns("__pycache__"))
    (repo / "conda.yaml").write_text("name: [x\n  dependencies: numpy\n")
    out = tmp_path / "out"
    code, _, err = run_cli("aggregator", repo, "--no-tracking", "--output", out)
    assert code == 3
    assert unstamped(err).startswith("error: conda.yaml line 2 is not valid YAML")
    assert not out.exists()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # MLflow's own
@pytest.mark.parametrize("how", ["not asked", "failed"])
def test_what_was_never_evaluated_is_not_called_best(how, run_cli, tmp_path):
    from mlflow import MlflowClient

    repo, options = NUMPY, ["--fraction-evaluate", 0]
    if how == "failed":
        repo, options = tmp_path / "repo", []
        shutil.copytree(NUMPY, repo, ignore=shutil.ignore_patterns("__pycache__"))
        with (repo / "model_manager.py").open("a") as file:
            file.write("\n    def evaluate_model(self):\n        return float('nan'), 0.5, 3\n")
    out = tmp_path / "out"
    code, said, err = run_cli(
        "flops_fl", "simulate", repo, "--learners", 3, "--rounds", 2, "--output", out, "--json",
        *options,
    )  # fmt: skip
    assert code == 0, err
    result = json.loads(said)
    assert result["best"] is None
    assert not (out / "model-best.npz").exists()
    assert [bool(record["not_evaluated"]) for record in result["rounds"]] == [True, True]
    assert err.count("A round without figures cannot become the best") == 1
    assert "no round was evaluated" in err
    client = MlflowClient(tracking_uri=result["mlflow"]["tracking_uri"])
    logged = client.get_run(result["mlflow"]["run_id"])
    assert logged.info.run_name == "FLOps FL round 2"
    assert logged.data.tags["flops.model"] == "logged"


@pytest.mark.slow
def test_a_learner_that_is_gone_leaves_a_round_that_says_why_it_was_not_evaluated(
    processes, digits, tmp_path
):
    repo = tmp_path / "repo"
    shutil.copytree(NUMPY, repo, ignore=shutil.ignore_patterns("__pycache__"))
    source = (repo / "model_manager.py").read_text()
    dies = 'import os\n        if os.environ.get("DIES"):\n            os._exit(9)\n        '
    head, fit, tail = source.partition("def fit_model(self):\n        ")
    (repo / "model_manager.py").write_text(head + fit + dies + tail)
    aggregator = processes.aggregator(
        repo, "--rounds", 1, "--min-available-clients", 3, "--min-evaluate-clients", 3,
        "--reconnect-timeout", 2, "--round-timeout", 60,
    )  # fmt: skip
    for n in range(3):
        env = {"DIES": "1"} if n == 2 else {}
        processes.learner(repo, digits / f"part-{n}", f"l{n}", env=env)
    (record,) = processes.result(aggregator)["rounds"]
    assert (record["learners"], record["loss"]) == (["l0", "l1"], None)
    assert [failure["learner"] for failure in record["failures"]] == ["l2"]
    said = "no learner was asked to evaluate (2 of 3 present; --min-available-clients, "
    assert record["not_evaluated"].startswith(said)
