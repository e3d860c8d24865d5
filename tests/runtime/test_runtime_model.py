"""The model that a run logs can be used elsewhere."""

import subprocess
import sys

import pytest

from tests.conftest import NUMPY

PACKAGE = """
from sklearn.linear_model import SGDClassifier

class Mine(SGDClassifier):
    pass
"""

MANAGER = """
import numpy as np
from data_manager import DataManager
from nets.linear import Mine

class ModelManager:
    input_example = np.ones((2, 64))

    def __init__(self):
        self.model = Mine(loss="log_loss")
        self.model.classes_ = np.arange(10)
        self.model.coef_, self.model.intercept_ = np.zeros((10, 64)), np.zeros(10)

    def set_model_data(self):
        (self.x, self.y), _ = DataManager().get_data()

    def get_model(self): return self.model
    def get_model_parameters(self): return [self.model.coef_, self.model.intercept_]
    def set_model_parameters(self, p): self.model.coef_, self.model.intercept_ = p

    def fit_model(self):
        self.model.partial_fit(self.x.astype(float), self.y, classes=np.arange(10))
        return len(self.x)

    def evaluate_model(self):
        return 0.5, self.model.score(self.x.astype(float), self.y), len(self.x)
"""

LOAD = """
import sys, mlflow, numpy as np
mlflow.set_tracking_uri(sys.argv[1])
uri = f"runs:/{sys.argv[2]}/logged_model_artifact"
model = mlflow.sklearn.load_model(uri)
example = mlflow.pyfunc.load_model(uri).input_example
print(mlflow.models.get_model_info(uri).signature.inputs.to_dict()[0]["tensor-spec"]["shape"])
print(np.array(example).tolist() == np.ones((2, 64)).tolist())
print(type(model).__module__, model.predict(np.zeros((1, 64))).shape)
"""


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # MLflow's own
def test_a_model_of_a_class_in_a_package_folder_loads_in_another_process(
    processes, digits, tmp_path
):
    from mlflow import MlflowClient

    repo, elsewhere = tmp_path / "repo", tmp_path / "elsewhere"
    (repo / "nets").mkdir(parents=True)
    elsewhere.mkdir()
    (repo / "nets" / "__init__.py").write_text("")
    (repo / "nets" / "linear.py").write_text(PACKAGE)
    (repo / "model_manager.py").write_text(MANAGER)
    (repo / "data_manager.py").write_text((NUMPY / "data_manager.py").read_text())
    aggregator = processes.aggregator(repo, "--rounds", 2, tracking=True)
    learner = processes.learner(repo, digits / "part-0", "only")
    result = processes.result(aggregator)
    processes.finish(learner)
    arguments = [result["mlflow"]["tracking_uri"], result["mlflow"]["run_id"]]
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", LOAD, *arguments],
        cwd=elsewhere, capture_output=True, text=True, timeout=90, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["(-1, 64)", "True", "nets.linear (1,)"]
    client = MlflowClient(tracking_uri=result["mlflow"]["tracking_uri"])
    training = client.get_run(result["mlflow"]["training_run_id"])
    assert training.data.params["rounds"] == "2"
    assert "round_timeout" in training.data.params  # an option that result.json does not name
    (model,) = client.search_logged_models([result["mlflow"]["experiment_id"]])
    assert [output.model_id for output in training.outputs.model_outputs] == [model.model_id]
    files = client.list_artifacts(training.info.run_id)
    assert [file.path for file in files] == ["history.png", "result.json"]


def test_a_flavor_that_does_not_fit_is_said_at_once(processes):
    aggregator = processes.aggregator(NUMPY, "--model-flavor", "keras", tracking=True)
    processes.finish(aggregator, code=2)
    said = processes.stderr(aggregator).splitlines()[-1]
    assert "--model-flavor keras " in said
    assert "the model is a ModelManager, which has no known flavor" in said
