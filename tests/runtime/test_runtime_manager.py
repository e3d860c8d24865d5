"""Federations started by an image's main.py, with the FLOps manager's arguments."""

import json
import sqlite3
from contextlib import closing

import pytest

from flops_fl.images.config import Origin, code
from tests.conftest import NUMPY, wait_for_port
from tests.trees import HALVES, free_address

ORIGIN = Origin("numpy", "", "", 0, "", "")
PLACES = ("66f0", "10.9.0.1", "10.9.0.2")


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
    aggregator = image("aggregator", *words, listen=processes.address, output=run)
    processes.finish(aggregator)
    found = json.loads((run / "result.json").read_text())
    assert found["status"] == "completed"
    assert [each["learners"] for each in found["rounds"]] == [[*HALVES["c0"]]] * 3
    with closing(sqlite3.connect(run / "mlflow.db")) as kept:
        assert ("FLOps Project 66f0",) in kept.execute("SELECT name FROM experiments").fetchall()
    said = processes.stderr(aggregator)
    assert "the manager at 10.9.0.1 and the observer at 10.9.0.2 are not told" in said
    assert [learner.poll() for learner in learners] == [None, None]  # they stay for the next


@pytest.mark.slow
def test_a_hierarchical_project_as_the_manager_starts_it(processes, image):
    minimums = (2, 2, 2)
    tracking = "http://10.9.0.3:7027"
    run = processes.folder / "run"
    root = image(
        *("aggregator", *PLACES, tracking, "ROOT_AGGREGATOR", 2, *minimums, "--track-locally"),
        listen=processes.address, output=run, no_tracking=1,
    )  # fmt: skip
    wait_for_port(processes.address)
    clusters = []
    for name, learners in HALVES.items():
        address = free_address()
        words = (*PLACES, tracking, "CLUSTER_AGGREGATOR", 3, *minimums, processes.address)
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
