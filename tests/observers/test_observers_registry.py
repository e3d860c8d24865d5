"""The best model becomes a version in MLflow's registry."""

import json
from dataclasses import replace
from functools import partial

import pytest
from mlflow import MlflowClient

from flops_fl.observers.mlflow import MlflowObserver
from flops_fl.observers.mlflow_local import local_store
from tests.conftest import NUMPY, wait_until
from tests.mlflow_server import free_port, kill, start_server
from tests.observers.mlflow_runs import RUN, record, sklearn_model

pytestmark = pytest.mark.filterwarnings("ignore")  # MLflow's own, many


def trained(folder, run, name):
    uri, artifacts = local_store(folder)
    observer = MlflowObserver(uri, artifacts)
    observer.on_start(run, [])
    observer.on_round(record(1), None)
    observer.on_end("completed", None)
    ids = observer.close(1, replace(sklearn_model(), register=name))
    return MlflowClient(tracking_uri=uri), ids["run_id"]


@pytest.mark.slow
def test_each_training_adds_one_version_and_moves_the_alias(tmp_path, caplog):
    caplog.set_level("INFO")
    client, first = trained(tmp_path, RUN, "digits model@champion")
    trained(tmp_path, RUN, "digits model@champion")  # resumed
    other = replace(RUN, run_id="r2", project_id="q")
    client, second = trained(tmp_path, other, "digits model@champion")
    versions = sorted(
        client.search_model_versions("name = 'digits model'"), key=lambda v: v.version
    )
    assert [version.run_id for version in versions] == [first, second]
    assert client.get_model_version_by_alias("digits model", "champion").run_id == second
    assert all(version.source.startswith("models:/m-") for version in versions)
    said = "the best model is digits model version {} (champion) in MLflow's registry at sqlite:///"
    for number, times in ((1, 2), (2, 1)):
        assert caplog.text.count(said.format(number)) == times


@pytest.mark.slow
def test_a_name_that_the_registry_refuses_costs_a_warning(tmp_path, caplog):
    client, run_id = trained(tmp_path, RUN, "a/b")  # the option does not let it pass
    assert "the name a/b was not logged to MLflow" in caplog.text
    assert run_id
    assert not client.search_registered_models()


@pytest.mark.parametrize("name", ["a/b", "@b", "a@v2"])
def test_wrong_names_are_named(run_cli, name):
    code, _, err = run_cli("flops_fl", "simulate", NUMPY, "--learners", 2, "--register", name)
    assert code == 2
    assert f"--register {name}: expected NAME or NAME@ALIAS" in err


def test_without_mlflow_nothing_can_be_registered(run_cli):
    code, _, err = run_cli(
        "flops_fl", "simulate", NUMPY, "--learners", 2, "--register", "a", "--no-tracking"
    )
    assert code == 2
    assert "--register needs MLflow: leave out --no-tracking" in err


@pytest.mark.slow
@pytest.mark.timeout(500)
def test_two_projects_on_one_server_at_once_have_a_version_each(processes, digits, tmp_path):
    (tmp_path / "server").mkdir()
    server = start_server(tmp_path / "server", port := free_port())
    try:
        trainings = [training(processes, NUMPY, port, project, digits) for project in ("a", "b")]
        results = [json.loads(training.communicate(timeout=300)[0]) for training in trainings]
        client = MlflowClient(tracking_uri=f"http://127.0.0.1:{port}")
        versions = client.search_model_versions("name = 'digits'")
        ids = [result["mlflow"]["run_id"] for result in results]
        assert sorted(version.run_id for version in versions) == sorted(ids)
        found = [client.get_run(run_id).info.experiment_id for run_id in ids]
        names = [client.get_experiment(number).name for number in found]
        assert names == ["FLOps Project a", "FLOps Project b"]
        assert client.get_model_version_by_alias("digits", "champion").run_id in ids
    finally:
        kill(server)


@pytest.mark.slow
@pytest.mark.timeout(500)
def test_a_server_that_was_away_gets_all_rounds_and_the_version(
    processes, slow_repo, digits, tmp_path
):
    (tmp_path / "server").mkdir()
    server = start_server(tmp_path / "server", port := free_port())
    try:
        mark = {"MARK": str(tmp_path / "x"), "FIT_SECONDS": "2"}
        running = training(processes, slow_repo, port, "a", digits, "--rounds", 8, env=mark)
        fits = partial(tmp_path.glob, "x-fit-*")
        wait_until(lambda: len(list(fits())) >= 4 or running.poll() is not None, seconds=120)
        kill(server)
        wait_until(lambda: len(list(fits())) >= 8 or running.poll() is not None, seconds=120)
        assert running.poll() is None, processes.stderr(running)
        server = start_server(tmp_path / "server", port)
        result = json.loads(running.communicate(timeout=300)[0])
        client = MlflowClient(tracking_uri=f"http://127.0.0.1:{port}")
        champion = client.get_model_version_by_alias("digits", "champion")
        assert champion.run_id == result["mlflow"]["run_id"]
        runs = client.search_runs([result["mlflow"]["experiment_id"]])
        names = {run.info.run_name for run in runs if run.info.status == "FINISHED"}
        assert {f"FLOps FL round {number}" for number in range(1, 9)} <= names
    finally:
        kill(server)


def training(processes, repo, port, project, data, *options, env=None):
    """A simulation with MLflow's server that registers its model."""
    return processes.start(
        "flops_fl", "simulate", repo, "--learners", 2, "--data", data / "part-0", "--json",
        "--tracking-uri", f"http://127.0.0.1:{port}", "--register", "digits@champion",
        "--project-id", project, "--output", processes.folder / project,
        *(options or ("--rounds", 3)), env=env,
    )  # fmt: skip
