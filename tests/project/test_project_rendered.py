"""Federations from rendered files: the commands of a compose file, without Docker."""

import json
import os
import shutil
import signal
import subprocess
import sys
import urllib.request

import pytest

from tests.conftest import ROOT, wait_for_port, wait_until
from tests.project.composed import Composed

SLA = {
    "ml_repo_url": "repo",
    "ml_model_flavor": "sklearn",
    "training_configuration": {
        "data_tags": ["digits"],
        "training_rounds": 8,
        "min_available_clients": 2,
        "min_fit_clients": 2,
        "min_evaluate_clients": 2,
    },
}


PATIENCE = 90  # seconds: a dozen processes start at once
pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]


def run(*words, cwd, **environ):
    done = subprocess.run(
        [*map(str, words)], cwd=cwd, capture_output=True, text=True, timeout=90, check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environ},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture
def rendered(slow_repo, processes, digits, tmp_path, monkeypatch):
    """Renders an SLA, makes certificates as its README says, and puts data on its servers."""
    monkeypatch.setenv("MARK", str(tmp_path / "mark"))
    monkeypatch.setenv("FIT_SECONDS", "0.3")

    def render(sla, *options):
        (tmp_path / "sla.json").write_text(json.dumps(sla))
        out = tmp_path / "out"
        words = ("project", "render", tmp_path / "sla.json", "--for", "compose", "--out", out)
        run(sys.executable, "-m", "flops_fl", *words, *options, cwd=tmp_path)
        program = tmp_path / "bin" / "flops-fl"
        program.parent.mkdir()
        program.write_text(f'#!/bin/sh\nexec {sys.executable} -m flops_fl "$@"\n')
        program.chmod(0o755)
        if "--insecure" not in options:
            path = f"{program.parent}{os.pathsep}{os.environ['PATH']}"
            run("sh", out / "certificates.sh", cwd=tmp_path, PATH=path)
        composed = Composed(out / "compose.yaml", slow_repo, processes)
        for name in composed.services:
            if name.startswith(("aggregator", "root", "cluster")):
                (out / f"{name}.env").write_text("FLOPS_NO_TRACKING=1\n")
        data = [name for name in composed.services if name.startswith("data")]
        shown = (out / "README.md").read_text().replace("\\\n", " ")
        (put,) = (line for line in shown.splitlines() if line.startswith("flops-fl data put"))
        for number, name in enumerate(data):
            composed.start(name)
            address = composed.address(name, 11027)
            wait_for_port(address)
            file = tmp_path / f"{name}.parquet"
            (part,) = (digits / f"part-{number % 3}").glob("*.parquet")
            shutil.copy(part, file)
            line = put.replace("FILE.parquet", str(file)).replace("localhost:PORT", address)
            run(sys.executable, "-m", *line.replace("flops-fl", "flops_fl").split(), cwd=out)
        return composed, out / "volumes"

    return render


def result(volume):
    (found,) = volume.glob("*/result.json")
    return json.loads(found.read_text())


def rounds(volume):
    return len({file.name.split(".")[0] for file in volume.glob("*/checkpoints/*")})


def kill(process):
    process.send_signal(signal.SIGKILL)
    process.wait()


def test_a_classic_federation_goes_on_after_its_aggregator_was_killed(rendered, processes):
    composed, volumes = rendered(SLA)
    learners = [composed.start(f"learner{number}") for number in (1, 2)]
    first = composed.start("aggregator")
    wait_until(lambda: rounds(volumes / "aggregator") > 2, PATIENCE)
    ready = f"http://{composed.address('aggregator', 9464)}/readyz"
    with urllib.request.urlopen(ready, timeout=5) as answer:
        assert answer.status == 200
    kill(first)
    before = result(volumes / "aggregator")
    assert before["status"] == "running"
    again = composed.start("aggregator")
    processes.finish(again)
    for learner in learners:
        processes.finish(learner)  # a container that ends so is not started again
    after = result(volumes / "aggregator")
    assert (after["status"], after["run_id"]) == ("completed", before["run_id"])
    assert [each["learners"] for each in after["rounds"]] == [["learner1", "learner2"]] * 8
    assert "round 1/8" not in processes.stderr(again)  # it goes on, and does not begin anew

    finished = composed.start("aggregator")  # nobody is there to train
    processes.finish(finished)
    assert result(volumes / "aggregator")["rounds"] == after["rounds"]


def test_a_hierarchical_federation_goes_on_after_a_root_and_a_cluster_were_killed(
    rendered, processes
):
    training = {
        "mode": "hierarchical",
        "data_tags": ["digits"],
        "training_cycles": 3,
        "training_rounds": 3,
    }
    composed, volumes = rendered(SLA | {"training_configuration": training})
    others = [composed.start(name) for name in composed.services if name.startswith("learner")]
    assert len(others) == 2  # one in each cluster
    others.append(composed.start("cluster2"))
    killed = [composed.start("root"), composed.start("cluster1")]
    wait_until(lambda: rounds(volumes / "cluster1") > 2, PATIENCE)
    for process in killed:
        kill(process)
    again = [composed.start("root"), composed.start("cluster1")]
    for process in (*again, *others):
        processes.finish(process)
    found = result(volumes / "root")
    both = {name: {"learners": 1, "failures": 0} for name in ("cluster1", "cluster2")}
    assert [each["clusters"] for each in found["rounds"]] == [both] * 3
    for name in both:
        assert len(result(volumes / name)["rounds"]) == 9
