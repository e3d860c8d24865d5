"""Federations started by an image's main.py, with the FLOps manager's arguments."""

import json
import sqlite3
from contextlib import closing

import pytest

from flops_fl.images.config import Origin, code
from tests.conftest import NUMPY, wait_for_port, wait_until
from tests.listeners import Broker, Listener, needs_mosquitto
from tests.trees import HALVES, free_address

ORIGIN = Origin("numpy", "", "", 0, "", "")
PLACES = ("66f0", "10.9.0.1", "10.9.0.2")
QUIET = "--deactivate-notifications"


@pytest.fixture
def image(processes, quarters):
    """Starts the main.py of an image by its role."""

    def start(role, *arguments, **environ):
        folder = processes.folder / role
        folder.mkdir(exist_ok=True)
        (main,) = (each for each in code(role, NUMPY, [], ORIGIN) if each.path == "app/main.py")
        (folder / "main.py").write_bytes(main.content.replace(b"/app/repo", str(NUMPY).encode()))
        environ = {f"FLOPS_{name.upper()}": str(value) for name, value in environ.items()}
        environ |= {"PYTHONPATH": str(folder), "FLOPS_DATA": str(quarters)}
        return processes.start("main", *arguments, env=environ)

    return start


@pytest.mark.slow
def test_a_classic_project_as_the_manager_starts_it(processes, image):
    learners = [
        image("learner", *PLACES, processes.address, name, learner_id=name) for name in HALVES["c0"]
    ]  # before the aggregator, as it may happen
    run = processes.folder / "run"
    words = (*PLACES, "http://10.9.0.3:7027", "CLASSIC_AGGREGATOR", 3, 2, 2, 2, "--track-locally")
    listener = Listener()
    aggregator = image(
        "aggregator", *words, listen=processes.address, output=run, notify=listener.url
    )
    processes.finish(aggregator)
    found = json.loads((run / "result.json").read_text())
    assert found["status"] == "completed"
    listener.wait_for(2)
    assert [text.split()[3:5] for text in listener.heard] == [
        ["has", "started:"],
        ["has", "completed"],
    ]
    assert [each["learners"] for each in found["rounds"]] == [[*HALVES["c0"]]] * 3
    with closing(sqlite3.connect(run / "mlflow.db")) as kept:
        assert ("FLOps Project 66f0",) in kept.execute("SELECT name FROM experiments").fetchall()
    assert [learner.poll() for learner in learners] == [None, None]  # they stay for the next


@pytest.mark.slow
def test_a_hierarchical_project_as_the_manager_starts_it(processes, image):
    minimums = (2, 2, 2)
    tracking = "http://10.9.0.3:7027"
    run = processes.folder / "run"
    root = image(
        *("aggregator", *PLACES, tracking, "ROOT_AGGREGATOR", 2, *minimums, "--track-locally"),
        QUIET,
        listen=processes.address, output=run, no_tracking=1,
    )  # fmt: skip
    wait_for_port(processes.address)
    clusters = []
    for name, learners in HALVES.items():
        address = free_address()
        words = (*PLACES, tracking, "CLUSTER_AGGREGATOR", 3, *minimums, processes.address, QUIET)
        folder = processes.folder / name
        clusters.append(image("aggregator", *words, listen=address, learner_id=name, output=folder))
        for learner in learners:
            image("learner", *PLACES, address, learner, learner_id=learner)
    processes.finish(root)
    found = json.loads((run / "result.json").read_text())
    assert found["status"] == "completed"
    assert found["rounds"][-1]["clusters"] == {n: {"learners": 2, "failures": 0} for n in HALVES}
    for cluster, name in zip(clusters, HALVES, strict=True):
        processes.finish(cluster)
        inner = json.loads((processes.folder / name / "result.json").read_text())
        assert len(inner["rounds"]) == 6
        assert f"nothing is tracked at {tracking}" in processes.stderr(cluster)


@pytest.mark.parametrize("words", [[], ["--rounds", "0"], ["python", "main.py", "--rounds", "0"]])
def test_an_image_takes_options_too(processes, image, words):
    process = image("learner", *words)
    processes.finish(process, code=2)
    said = processes.stderr(process)
    assert "--aggregator is missing" in said
    assert ("--rounds" in said) == bool(words)


@pytest.mark.slow
@needs_mosquitto
def test_manager_and_observer_are_told_where_the_manager_says_that_they_are(
    processes, image, tmp_path
):
    broker, listener = Broker(tmp_path, "allow_anonymous true"), Listener()
    places = ("66f0", broker.address, listener.url.removeprefix("tcp://"))
    run = processes.folder / "run"
    words = (*places, "http://10.9.0.3:7027", "CLASSIC_AGGREGATOR", 1, 1, 1, 1, "--track-locally")
    try:
        image("learner", *places, processes.address, "l0", learner_id="l0")
        processes.finish(image("aggregator", *words, listen=processes.address, output=run))
        wait_until(lambda: len(broker.heard) == 2)
    finally:
        broker.close()
    listener.wait_for(2)
    tracked = json.loads((run / "result.json").read_text())["mlflow"]
    topics, payloads = zip(*broker.heard, strict=True)
    assert topics == ("flops_manager/aggregator/started", "flops_manager/aggregator/success")
    told = json.loads(payloads[1])
    assert told["flops_project_id"] == "66f0"
    assert told["run_id"] == tracked["run_id"]
