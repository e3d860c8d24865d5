"""The README's three machines, its commands as printed: folders for machines, a copy for scp."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from docs.make.walk import MACHINES, SCP, free_port, here, machines
from flops_fl import cli
from tests.conftest import LIMIT, NUMPY, ROOT


@pytest.fixture
def machine(tmp_path):
    """Starts the commands of a block on a machine."""
    tools = tmp_path / "tools"
    tools.mkdir()
    (tools / "scp").write_text(SCP)
    (tools / "scp").chmod(0o755)
    path = os.pathsep.join([str(tools), str(Path(sys.executable).parent), os.environ["PATH"]])
    started = []

    def start(name, commands):
        folder = tmp_path / MACHINES[name]
        folder.mkdir(exist_ok=True)
        process = subprocess.Popen(
            ["bash", "-ec", commands],
            cwd=folder,
            env={**os.environ, "PATH": path, "MACHINES": str(tmp_path), "PYTHONPATH": str(ROOT)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        if process.poll() is None:
            os.killpg(process.pid, 9)
        process.wait()
        process.stdout.close()


def finished(process):
    out, _ = process.communicate(timeout=LIMIT)
    assert process.returncode == 0, out
    return out


@pytest.mark.slow
def test_the_three_machines_of_the_readme(machine, digits, tmp_path):
    port = free_port(MACHINES["root"])

    def ours(name, commands):
        data = digits / f"part-{'ab'.find(name)}"
        return here(commands, NUMPY, data, port).replace("--rounds 10", "--rounds 2 --no-tracking")

    for folder in MACHINES.values():
        (tmp_path / folder).mkdir()
    blocks = machines((ROOT / "README.md").read_text())
    assert [name for name, _ in blocks] == ["root", "a", "b", "root", "a"]
    actors = []
    for name, block in blocks:
        before, python, actor = block.partition("python -m")
        said = finished(machine(name, ours(name, before)))
        assert said.count("next, ") == before.count("flops-fl pki")
        if python:
            actors.append(machine(name, ours(name, python + actor)))
    # "and on b with the files of learner-b"
    actors.append(machine("b", ours("b", blocks[-1][1].replace("learner-a", "learner-b"))))
    for actor in actors:
        finished(actor)
    (result,) = (tmp_path / MACHINES["root"]).glob("runs/*/result.json")
    rounds = json.loads(result.read_text())["rounds"]
    assert [record["learners"] for record in rounds] == [["learner-a", "learner-b"]] * 2
    for learner in ("a", "b"):  # the key never left
        keys = [path.parent.name for path in tmp_path.rglob(f"learner-{learner}.key")]
        assert keys == [MACHINES[learner]]


def enrolled(folder, *lines):
    for line in lines:
        cli.run(["pki", "enroll", *line.split(), "--ca", f"{folder}/pki", "--out", str(folder)])


def files(folder, name):
    names = {"cert": f"pki/signed/{name}.pem", "key": f"{name}.key", "ca": "pki/ca.pem"}
    return [part for kind, file in names.items() for part in (f"--tls-{kind}", folder / file)]


@pytest.mark.slow
def test_a_long_id_and_an_address_of_ipv6_in_a_federation(processes, digits, tmp_path):
    """What has no room in a common name is still the learner's id; ::1 is verified as such."""
    long = "länger-" * 11
    enrolled(tmp_path, "root --role aggregator --host ::1", f"{long} --role learner")
    with socket.socket(socket.AF_INET6) as probe:
        try:
            probe.bind(("::1", 0))
        except OSError:
            pytest.skip("no IPv6 here")
        processes.address = f"[::1]:{probe.getsockname()[1]}"
    aggregator = processes.aggregator(NUMPY, "--rounds", 1, *files(tmp_path, "root"))
    learner = processes.start(
        "learner", NUMPY, "--aggregator", processes.address, "--data", digits / "part-0",
        *files(tmp_path, long),
    )  # fmt: skip
    processes.finish(learner)
    assert processes.result(aggregator)["rounds"][0]["learners"] == [long]


def test_an_actor_with_a_certificate_of_the_other_role_ends_at_once(run_cli, tmp_path):
    enrolled(tmp_path, "a --role learner")
    code, _, err = run_cli("aggregator", NUMPY, *files(tmp_path, "a"))
    assert (code, err.count("\n")) == (5, 1), err
    assert "pki/signed/a.pem is for another role than aggregator" in err
