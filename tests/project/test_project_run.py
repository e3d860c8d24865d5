"""Projects are run, as a person would: real processes, whole federations."""

import json
import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from flops_fl.run.checkpoint import newest_round
from tests.conftest import LIMIT, wait_until
from tests.data.serving import DataServer
from tests.listeners import Listener
from tests.project.test_project_command import IN_CLUSTERS, project
from tests.trees import free_address

LONG = 3 * LIMIT  # seconds for many processes on a machine that has others, too

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3 * LONG)]


def run(processes, file, *more, **env):
    words = ("project", "run", file, "--no-tracking", "--json", *more)
    return processes.start("flops_fl", *words, env=env)


def finished(training, code=0):
    """What a project says on stdout."""
    out, _ = training.communicate(timeout=LONG)
    assert training.returncode == code, Path(training.log.name).read_text()
    return json.loads(out)


def by_hand(file, folder, *more):
    """Do what the plan says."""
    options = ["--no-tracking", "--listen", free_address(), *map(str, more)]
    plan = subprocess.run(
        [sys.executable, "-m", "flops_fl", "project", "plan", file, *options],
        cwd=folder, capture_output=True, text=True, check=True, timeout=LONG,
    )  # fmt: skip
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    with (folder / "by-hand.log").open("w") as log:
        script = subprocess.Popen(
            ["bash", "-c", plan.stdout], cwd=folder, stdout=log, stderr=log,
            env={**os.environ, "PATH": path}, start_new_session=True,
        )  # fmt: skip
    try:
        assert script.wait(LONG) == 0
    finally:
        with suppress(ProcessLookupError):
            os.killpg(script.pid, signal.SIGKILL)


def digest(folder):
    return json.loads((folder / "result.json").read_text())["model_sha256"]


def test_each_learner_trains_on_its_own_data(processes, digits, tmp_path):
    file = project(tmp_path, verbose=True)
    training = run(processes, file, "--data", digits, "--output", tmp_path / "out")
    result = finished(training)
    assert (result["status"], len(result["rounds"])) == ("completed", 2)
    for each in result["rounds"]:
        assert each["learners"] == ["learner-0", "learner-1", "learner-2"]
    assert result["options"]["min_fit_clients"] == 2
    assert result["folder"] == str(tmp_path / "out")
    assert f"--data {digits / 'part-2'} --data-tags digits" in processes.stderr(training)


@pytest.mark.parametrize("training", [{}, IN_CLUSTERS])
def test_the_plans_commands_give_the_same_model_to_the_bit(processes, tmp_path, training):
    file = project(tmp_path, training)
    for name in ("once", "again")[bool(training) :]:
        training = run(processes, file, "--data", "digits=digits", "--output", tmp_path / "out")
        result = finished(training)
        assert result["status"] == "completed", name
    by_hand(file, tmp_path, "--data", "digits=digits", "--output", tmp_path / "by-hand")
    assert digest(tmp_path / "by-hand") == digest(tmp_path / "out") == result["model_sha256"]


def test_a_killed_project_goes_on_with_resume(processes, slow_repo, tmp_path):
    blank = slow_repo.rename(tmp_path / "a repository's path")
    file = project(tmp_path, IN_CLUSTERS, ml_repo_url=blank.name)
    common = ("--data", "digits=digits", "--output")
    mark = str(tmp_path / "x")
    whole = run(processes, file, *common, tmp_path / "whole", MARK=mark)
    finished(whole)

    killed = run(processes, file, *common, tmp_path / "run", MARK=mark, FIT_SECONDS="0.5")
    wait_until(lambda: newest_round(tmp_path / "run") > 1, LONG)
    killed.kill()
    killed.wait()
    refused = run(processes, file, *common, tmp_path / "run", MARK=mark)
    assert "--resume" in finished(refused, 2)["error"]
    resumed = run(processes, file, *common, tmp_path / "run", "--resume", MARK=mark)
    result = finished(resumed)
    assert len(result["rounds"]) == IN_CLUSTERS["training_cycles"]
    assert result["model_sha256"] == digest(tmp_path / "whole")


def test_learners_read_what_has_the_projects_tags_from_data_servers(processes, digits, tmp_path):
    servers = [DataServer(digits / f"part-{n}", log=tmp_path / f"{n}.log") for n in range(2)]
    try:
        places = [part for each in servers for part in ("--data", f"grpc://{each.address}")]
        served = run(processes, project(tmp_path), *places, "--output", tmp_path / "served")
        result = finished(served)
    finally:
        for server in servers:
            server.stop()
    places = ["--data", digits / "part-0", "--data", digits / "part-1"]
    local = run(processes, project(tmp_path), *places, "--output", tmp_path / "local")
    assert finished(local)["model_sha256"] == result["model_sha256"]


def test_the_observer_hears_of_start_and_end(processes, tmp_path):
    listener = Listener()
    file = project(tmp_path, IN_CLUSTERS)
    training = run(
        processes, file, "--data", "digits=digits", "--notify", listener.url, "--project-id", "p",
        "--output", tmp_path / "out",
    )  # fmt: skip
    finished(training)
    listener.wait_for(2)
    assert listener.heard[0] == "aggregator of p has started: 4 rounds of FedAvg"
    assert listener.heard[1].startswith("aggregator of p has completed 4 rounds; best: round 4, ")


def test_ctrl_c_ends_all_processes(slow_repo, tmp_path):
    file = project(tmp_path, IN_CLUSTERS, ml_repo_url=str(slow_repo))
    training = subprocess.Popen(
        [sys.executable, "-m", "flops_fl", "project", "run", file, "--data", "digits=digits",
         "--no-tracking", "--json", "--output", tmp_path / "run"],
        cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "MARK": str(tmp_path / "x"), "FIT_SECONDS": "60"},
    )  # fmt: skip
    wait_until(lambda: len(list(tmp_path.glob("x-fit-*"))) >= 2, LONG)
    learners = {int(path.name.split("-")[2]) for path in tmp_path.glob("x-fit-*")}
    training.send_signal(signal.SIGINT)
    out, err = training.communicate(timeout=LONG)
    assert training.returncode == 130, err
    assert json.loads(out)["status"] == "interrupted"
    wait_until(lambda: not any(os.path.exists(f"/proc/{learner}") for learner in learners))
    assert "Traceback" not in err
