"""A model answers over HTTP, by MLflow's scoring protocol."""

import json
import re
import signal
import socket
import ssl
import urllib.error
import urllib.request

import numpy as np
import pytest

import flops_fl
from flops_fl import cli
from flops_fl.errors import UsageError
from flops_fl.observers.scoring import logged
from tests.conftest import EXAMPLES, NUMPY, wait_until
from tests.mlflow_server import free_port
from tests.use.runs import made


def served(processes, *words):
    """The base URL of a server, once it listens."""
    server = processes.start("flops_fl", "serve", *words, "--listen", "127.0.0.1:0")
    wait_until(
        lambda: " on http" in processes.stderr(server) or server.poll() is not None, seconds=90
    )
    found = re.search(r"https?://127.0.0.1:\d+", processes.stderr(server))
    assert found, processes.stderr(server)
    return server, found[0]


def predict(url, rows, context=None):
    body = json.dumps({"inputs": np.asarray(rows).tolist()}).encode()
    request = urllib.request.Request(
        f"{url}/invocations", body, {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=60, context=context) as answer:
        return np.array(json.load(answer)["predictions"])


def test_a_runs_best_model_predicts_until_it_is_stopped(processes, digits, tmp_path):
    run = made(tmp_path, NUMPY, digits / "part-0")
    rows = np.linspace(0, 1, 128).reshape(2, 64)
    server, url = served(processes, run)
    with urllib.request.urlopen(f"{url}/ping", timeout=60) as answer:
        assert answer.status == 200
    assert np.allclose(predict(url, rows), flops_fl.load(run).predict(rows))
    with pytest.raises(urllib.error.HTTPError) as caught:
        predict(url, [[1, 2]])
    assert caught.value.code == 400
    caught.value.close()
    server.send_signal(signal.SIGTERM)
    processes.finish(server, 130)
    assert "Traceback" not in processes.stderr(server)
    assert "WARNING" not in processes.stderr(server)


NAMED = """
import numpy as np
import pandas as pd


class ModelManager:
    input_example = pd.DataFrame({"rooms": [1.0], "age": [2.0]})

    def __init__(self):
        self.prices = np.zeros(2)

    def set_model_data(self):
        pass

    def get_model(self):
        return self

    def get_model_parameters(self):
        return [self.prices]

    def set_model_parameters(self, parameters):
        (self.prices,) = parameters

    def fit_model(self):
        self.prices[:] = 3, -1
        return 1

    def evaluate_model(self):
        return 0.0, 1.0, 1

    def predict(self, rows):
        return (rows["rooms"] * self.prices[0] + rows["age"] * self.prices[1]).to_numpy()
"""


@pytest.mark.slow
def test_a_model_of_named_columns_takes_csv(processes, tmp_path):
    repo = tmp_path / "repo"
    repo.mkdir()
    (repo / "model_manager.py").write_text(NAMED)
    _, url = served(processes, made(tmp_path, repo, None))
    asked = urllib.request.Request(
        f"{url}/invocations", b"rooms,age\n2,1\n4,5\n", {"Content-Type": "text/csv"}
    )
    with urllib.request.urlopen(asked, timeout=60) as answer:
        assert json.load(answer)["predictions"] == [5, 7]


@pytest.mark.slow
def test_a_registered_model_is_served_with_tls(processes, authority, digits_28, tmp_path):
    run = tmp_path / "run"
    training = processes.start(
        "flops_fl", "simulate", EXAMPLES / "mnist_sklearn", "--learners", 2, "--rounds", 1,
        "--data", digits_28 / "part-0", "--output", run, "--register", "digits@champion",
    )  # fmt: skip
    processes.finish(training)
    _, url = served(
        processes, "models:/digits@champion", "--tracking-uri", f"sqlite:///{run}/mlflow.db",
        *authority.options("server")[:4],
    )  # fmt: skip
    trusting = ssl.create_default_context(cafile=tmp_path / "authority.pem")
    rows = np.random.default_rng(0).random((3, 784))
    found = predict(url, rows, trusting)
    assert (found == flops_fl.load(run).get_model().predict(rows)).all()


def test_an_address_in_use_is_one_sentence(run_cli, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        code, _, err = run_cli("flops_fl", "serve", tmp_path, "--listen", f"127.0.0.1:{port}")
    assert code == 2
    assert f"cannot listen on 127.0.0.1:{port}: Address already in use. Choose another" in err


@pytest.mark.filterwarnings("ignore")  # MLflow's own
def test_a_server_that_is_away_is_called_away(tmp_path):
    server = f"http://127.0.0.1:{free_port()}"
    said = rf"models:/x@y cannot be loaded from {server} \(Connection refused\): start MLflow"
    with pytest.raises(UsageError, match=said):
        logged("models:/x@y", server)


def test_what_takes_long_is_said_before_it_is_done(monkeypatch, caplog):
    class Begun(Exception):
        pass

    def logged(uri, tracking_uri):
        assert f"loading {uri} into MLflow's server" in caplog.text
        raise Begun

    caplog.set_level("INFO")
    monkeypatch.setattr("flops_fl.use.serve.logged", logged)
    words = ["models:/a@b", "--tracking-uri", "http://127.0.0.1:1", "--listen", "127.0.0.1:0"]
    with pytest.raises(Begun):
        cli.run(["serve", *words])


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["nowhere"], "no run in nowhere"),
        (["models:/a@b"], "models:/a@b is in MLflow: say where with --tracking-uri"),
        (["nowhere", "--listen", "0.0.0.0:0"], "can be reached from other machines"),
    ],
)
def test_what_cannot_be_served_is_named(run_cli, tmp_path, words, said):
    code, _, err = run_cli("flops_fl", "serve", *words, "--listen", "127.0.0.1:0", *words[1:])
    assert code == 2
    assert said in err
    assert "Traceback" not in err
