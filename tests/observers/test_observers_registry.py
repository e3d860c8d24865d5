"""The best model becomes a version in MLflow's registry."""

from dataclasses import replace

import pytest
from mlflow import MlflowClient

from flops_fl.observers.mlflow import MlflowObserver
from flops_fl.observers.mlflow_store import local_store
from tests.conftest import NUMPY
from tests.observers.test_observers_mlflow import RUN, record, sklearn_model

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
def test_each_training_adds_one_version_and_moves_the_alias(tmp_path):
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


@pytest.mark.slow
def test_a_name_that_the_registry_refuses_costs_a_warning(tmp_path, caplog):
    client, run_id = trained(tmp_path, RUN, "a/b")  # the option does not let it pass
    assert "the name was not logged to MLflow" in caplog.text
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
