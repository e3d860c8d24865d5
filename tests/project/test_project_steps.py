"""What follows the training of a project: the image of its model, and serving it."""

import io
import json
import re
import signal
import socket
from types import SimpleNamespace

import numpy as np
import pytest

import flops_fl
from flops_fl import cli
from flops_fl.errors import UsageError
from flops_fl.options.images import THIS_PYTHON
from flops_fl.process.answer import Answer
from flops_fl.project import command
from flops_fl.project.sla import BUILD, DEPLOY
from flops_fl.use.serve import serve
from tests.conftest import LIMIT, wait_until
from tests.project.test_project_command import project
from tests.trees import free_address
from tests.use.test_use_serve import predict


@pytest.fixture
def called(monkeypatch, tmp_path):
    """Everything but the steps is left out: what they were asked for, by name."""
    found = SimpleNamespace(status="completed", code=0)

    def federate(options, data, answer, *, minimums, on_end):
        on_end(tmp_path / "run", {"status": found.status})
        return found.code

    note = vars(found).update
    monkeypatch.setattr(command, "federate", federate)
    monkeypatch.setattr(command, "require_base", lambda *told: note(base=told))
    monkeypatch.setattr(command, "require_registry", lambda told: note(registry=told))
    monkeypatch.setattr(command, "build_images", lambda options, answer: note(image=options))
    monkeypatch.setattr(command, "serve", lambda options, **_: note(server=options))
    return found


def run(file, *more):
    return cli.run(["project", "run", str(file), "--data", "digits=digits", *map(str, more)])


def test_the_steps_are_the_commands_for_the_models_image_and_server(called, tmp_path):
    file = project(
        tmp_path, post_training_steps=[BUILD, DEPLOY], supported_platforms=["linux/arm64"]
    )
    here = free_address()
    assert run(file, "--serve", here, "--push", "registry.example.org") == 0
    image, server = called.image, called.server
    assert (image.repo, image.role) == (str(tmp_path / "run"), "inference")
    assert (image.platform, image.push) == (["linux/arm64"], "registry.example.org")
    assert called.registry == "registry.example.org"
    assert image.base == f"python:{THIS_PYTHON}-slim"
    assert called.base == (image.base, ["linux/arm64"])
    assert image.out == tmp_path / "run" / "images"
    assert (server.model, str(server.listen)) == (str(tmp_path / "run"), here)


def test_each_step_is_named_when_it_begins(called, tmp_path, monkeypatch, caplog):
    def write_partitions(*_, **__):
        found.append(caplog.text)

    def federate(options, data, answer, **_):
        with data:
            return 1

    found = []
    caplog.set_level("INFO")
    monkeypatch.setattr("flops_fl.data.partition.write_partitions", write_partitions)
    monkeypatch.setattr(command, "federate", federate)
    run(project(tmp_path))
    begun = r"training \S+: classic, 2 rounds, 2 learners\n.*data: digits as digits"
    assert re.search(begun, found[0], re.DOTALL)


@pytest.mark.parametrize(("status", "code"), [("interrupted", 130)])
def test_nothing_follows_a_training_that_did_not_end(called, tmp_path, status, code):
    called.status, called.code = status, code
    file = project(tmp_path, post_training_steps=[DEPLOY])
    assert run(file, "--serve", free_address()) == code
    assert not hasattr(called, "server")


def test_a_step_that_cannot_be_done_is_refused_before_the_training(called, tmp_path):
    file = project(tmp_path, post_training_steps=[DEPLOY])
    with pytest.raises(UsageError, match=r"--serve 0.0.0.0:5001 can be reached .* --insecure"):
        run(file, "--serve", "0.0.0.0:5001")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        there = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(
            UsageError, match=f"on {there}: Address already in use. Choose another --serve"
        ):
            run(file, "--serve", there)
    assert not hasattr(called, "server")


def test_a_port_that_is_taken_during_the_training_is_in_the_document(called, tmp_path, monkeypatch):
    def federate(*arguments, **options):
        taken.bind(("127.0.0.1", int(here.rpartition(":")[2])))
        taken.listen()
        return trained(*arguments, **options)

    trained, here = command.federate, free_address()
    answer = Answer(stdout := io.StringIO())
    monkeypatch.setattr(command, "federate", federate)
    monkeypatch.setattr(command, "serve", serve)
    file = project(tmp_path, post_training_steps=[DEPLOY])
    with socket.socket() as taken:
        words = ["project", "run", str(file), "--data", "digits=digits", "--serve", here, "--json"]
        with pytest.raises(UsageError) as caught:
            cli.run(words, answer=answer)
    answer.fail(str(caught.value), caught.value.exit_code)  # as `run_main` does
    document = json.loads(stdout.getvalue())
    assert (document["status"], document["exit_code"]) == ("failed", 2)
    assert (document["folder"], document["serves"]) == (str(tmp_path / "run"), None)
    assert f"on {here}: Address already in use. Choose another --serve" in document["error"]


@pytest.mark.slow
@pytest.mark.timeout(3 * LIMIT)
def test_a_projects_model_answers_until_ctrl_c(processes, tmp_path):
    here, file = free_address(), project(tmp_path, post_training_steps=[DEPLOY])
    served = processes.start(
        "flops_fl", "project", "run", file, "--data", "digits=digits", "--no-tracking", "--json",
        "--output", tmp_path / "run", "--serve", here,
    )  # fmt: skip
    wait_until(lambda: " on http" in processes.stderr(served), seconds=2 * LIMIT)
    rows = np.linspace(0, 1, 128).reshape(2, 64)
    expected = flops_fl.load(tmp_path / "run").predict(rows)
    assert np.allclose(predict(f"http://{here}", rows), expected)
    served.send_signal(signal.SIGINT)
    result = json.loads(processes.finish(served, 130))
    assert (result["status"], result["serves"]) == ("completed", f"http://{here}")
    said = processes.stderr(served)
    assert re.search(rf"{DEPLOY} alone does nothing in FLOps, .* here it serves", said)
