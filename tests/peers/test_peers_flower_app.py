"""The exported Flower app: its ServerApp and ClientApp, joined by a Grid in this process."""

import json
import subprocess
import sys
import tomllib
from pathlib import Path

import flwr.supercore.task_identity
import pytest
from flwr.app import ConfigRecord, Context, Error, Message, RecordDict
from flwr.serverapp import Grid

from flops_fl.actors.flower_app import client_app, server_app
from flops_fl.cli import run
from flops_fl.data.content import hash_of
from flops_fl.data.folder import load_folder
from flops_fl.errors import FederationError, UsageError

TaskIdentity = flwr.supercore.task_identity.TaskIdentity


class LocalGrid(Grid):
    """Nodes that answer at once, in this process. Node ids say nothing, as in Flower."""

    def __init__(self, run_config, node_configs):
        self.contexts = {
            9000 - 7 * index: Context(1, 9000 - 7 * index, config, RecordDict(), run_config)
            for index, config in enumerate(node_configs)
        }
        self.answers = {}
        self.broken = {}  # node: what happens instead of an answer, from the second message on
        self.asked = []

    set_run = create_message = send_and_receive = None
    run = None

    def get_node_ids(self):
        return list(self.contexts)

    def push_messages(self, messages):
        return [self._push(message) for message in messages]

    def _push(self, message):
        node, kind = message.metadata.dst_node_id, message.metadata.message_type
        message.metadata.__dict__["_message_id"] = key = f"m{len(self.asked)}"
        self.asked.append((node, kind))
        if kind == "query" or node not in self.broken:
            self.answers[key] = client_app(message, self.contexts[node])
        elif self.broken[node] == "error":
            error = Error(code=1, reason="the node has gone")
            self.answers[key] = Message(error, reply_to=message)
        return None if self.broken.get(node) == "unsent" and kind != "query" else key

    def pull_messages(self, message_ids):
        return [self.answers.pop(i) for i in message_ids if i in self.answers]


# Flower's base class is abstract; three of its methods are never asked for.
LocalGrid.__abstractmethods__ = frozenset()


@pytest.fixture
def app(tmp_path, monkeypatch):
    """Export an example; a function that runs the app over some nodes."""
    # What Flower's own processes set before they start an app: who sends a message.
    monkeypatch.setattr(TaskIdentity, "_run_id", 1)
    monkeypatch.setattr(TaskIdentity, "_node_id", 1)
    monkeypatch.setattr(TaskIdentity, "_task_id", 1)

    def export(*options, repo="examples/mnist_sklearn"):
        out = tmp_path / "app"
        assert (
            run(
                [
                    "flower",
                    "export",
                    repo,
                    "--out",
                    str(out),
                    "--resize",
                    "28",
                    "--output",
                    str(out / "runs"),
                    *options,
                    "--no-tracking",
                ]
            )
            == 0
        )
        monkeypatch.syspath_prepend(out)
        return tomllib.loads((out / "pyproject.toml").read_text())["tool"]["flwr"]["app"]

    def play(exported, nodes, broken=None, **overrides):
        config = exported["config"] | overrides
        grid = LocalGrid(config, nodes)
        grid.broken = broken or {}
        server_app(grid, Context(1, 0, {}, RecordDict(), config))
        output = tmp_path / (config["output"] or "runs/mnist_sklearn")
        return json.loads((output / "result.json").read_text())

    return export, play


def parts(count):
    return [{"partition-id": index, "num-partitions": count} for index in range(count)]


@pytest.mark.slow
def test_the_model_is_the_one_of_our_own_engine_to_the_bit(app, run_cli, tmp_path):
    export, play = app
    exported = export("--learners", "3", "--rounds", "2", "--seed", "5")
    result = play(exported, parts(3))
    code, out, err = run_cli(
        "flops_fl", "simulate", "examples/mnist_sklearn", "--learners", "3", "--rounds", "2",
        "--resize", "28", "--seed", "5", "--no-tracking", "--json", "--output", tmp_path / "own",
    )  # fmt: skip
    assert code == 0, err
    own = json.loads(out)
    assert result["model_sha256"] == own["model_sha256"]
    assert result["best"] == own["best"]
    assert result["rounds"][1]["learners"] == ["learner-0", "learner-1", "learner-2"]
    assert {p.name for p in (tmp_path / "app" / "runs").iterdir()} >= {
        "checkpoints", "model-best.npz", "model-last.npz", "history.png",
    }  # fmt: skip


def test_nodes_with_data_and_names_of_their_own(app, digits_28):
    export, play = app
    exported = export("--learners", "2", "--rounds", "1")
    names = ("edge-b", "edge-a")
    nodes = [
        {"data": str(digits_28 / f"part-{i}"), "data-tags": "digits", "learner-id": name}
        for i, name in enumerate(names)
    ]
    result = play(exported, nodes)
    assert result["rounds"][0]["learners"] == ["edge-a", "edge-b"]
    assert {name: entry["data"] for name, entry in result["rounds"][0]["new_data"].items()} == {
        name: hash_of(load_folder(digits_28 / f"part-{i}")) for i, name in enumerate(names)
    }
    assert result["rounds"][0]["accuracy"] > 0.5


@pytest.mark.parametrize(
    ("how", "said"), [("error", "the node has gone"), ("silent", "no answer"), ("unsent", "take")]
)
def test_a_node_that_fails_costs_its_own_update(app, how, said):
    export, play = app
    exported = export("--learners", "3", "--rounds", "1", "--round-timeout", "1")
    result = play(exported, parts(3), broken={8993: how})
    record = result["rounds"][0]
    assert record["learners"] == ["learner-0", "learner-2"]
    assert {f["learner"] for f in record["failures"]} == {"learner-1"}
    assert said in record["failures"][0]["reason"]


def test_user_code_that_raises_is_named_with_its_stage(app, tmp_path, capfd):
    export, play = app
    repo = tmp_path / "repo"
    repo.mkdir()
    source = """
import numpy as np
from flops_utils.ml_repo_building_blocks import load_dataset

class ModelManager:
    def __init__(self): self.w = np.zeros(3)
    def set_model_data(self): self.n = len(load_dataset())
    def get_model(self): return self
    def get_model_parameters(self): return [self.w]
    def set_model_parameters(self, parameters): self.w = parameters[0]
    def fit_model(self):
        if self.n == 898: raise ValueError("this half is no good")
        return self.n
    def evaluate_model(self): return 0.5, 0.5, self.n
"""
    (repo / "model_manager.py").write_text(source)
    exported = export("--learners", "2", "--rounds", "1", repo=str(repo))
    failures = play(exported, parts(2))["rounds"][0]["failures"]
    assert [f["stage"] for f in failures] == ["fit_model"]
    assert "this half is no good" in failures[0]["reason"]
    assert "line 12, in fit_model" in capfd.readouterr().err


def test_nodes_without_data_are_named_and_the_run_ends(app, capsys):
    export, play = app
    exported = export("--learners", "2", "--join-timeout", "0.2")
    with pytest.raises(FederationError, match="0 of 2 learners came"):
        play(exported, [{}, {}])
    assert "this node has no data" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "said"),
    [("secaggplus_configs", "SecAgg+"), ("fitins.config", "fitins.config"), (None, "too little")],
)
def test_messages_of_another_server_app_are_refused_by_name(app, name, said):
    app[0]("--learners", "2")
    content = RecordDict({name: ConfigRecord({"stage": "setup"})} if name else {})
    context = Context(1, 9, {}, RecordDict(), {})
    reply = client_app(Message(content, 9, "train"), context)
    assert f"a message with {said}: this ClientApp answers only" in reply.error.reason


@pytest.mark.parametrize("output", ["", "results/here"])
def test_a_relative_output_is_below_the_folder_of_the_superlink(app, output, tmp_path, monkeypatch):
    export, play = app
    exported = export("--learners", "1", "--rounds", "1", "--output", "results/here")
    assert exported["config"]["output"] == "results/here"
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    with pytest.raises(FileNotFoundError, match="result.json"):
        play(exported, parts(1), output=output)
    (result,) = (tmp_path / "elsewhere").rglob("result.json")
    assert result.parent.relative_to(tmp_path) == Path("elsewhere", output or "runs/mnist_sklearn")


def test_an_app_says_nothing_of_the_machine_that_wrote_it(app, tmp_path):
    app[0]("--learners", "2", "--output", "here")
    assert str(tmp_path) not in (tmp_path / "app" / "pyproject.toml").read_text()


@pytest.mark.slow
def test_an_app_can_be_installed_after_a_run_in_its_folder(app, tmp_path):
    export, play = app
    play(export("--learners", "1", "--rounds", "1"), parts(1))
    assert (tmp_path / "app" / "runs").is_dir()
    pip = [sys.executable, "-m", "pip", "install", "--no-deps", "--target", tmp_path / "there"]
    done = subprocess.run([*pip, tmp_path / "app"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert [path.name for path in (tmp_path / "there").iterdir() if path.suffix == ""] == []


def test_an_option_that_is_wrong_is_named(app):
    export, play = app
    exported = export("--learners", "2")
    with pytest.raises(UsageError, match="--rounds -1"):
        play(exported, parts(2), rounds=-1)
    with pytest.raises(UsageError, match="--typo"):
        play(exported, parts(2), typo=1)


@pytest.mark.slow
def test_an_opaque_model_is_that_of_our_own_engine_to_the_bit(app, run_cli, tmp_path):
    export, play = app
    repo = "tests/repositories/growing_numpy"
    told = ["--learners", "2", "--rounds", "2", "--strategy", "collecting:Collecting"]
    result = play(export(*told, "--resize", "8", repo=repo), parts(2))
    options = ["--no-tracking", "--json", "--output", tmp_path / "own"]
    code, out, err = run_cli("flops_fl", "simulate", repo, *told, *options)
    assert code == 0, err
    assert not any(record["failures"] for record in result["rounds"])
    assert result["model_sha256"] == json.loads(out)["model_sha256"]
