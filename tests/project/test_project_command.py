"""`flops-fl project`: what it refuses, what it plans, and that it trains what it plans."""

import json
import os
import re
import shlex
import shutil
import subprocess

import pytest

from flops_fl import cli
from flops_fl.errors import DataError, FlopsError, UsageError
from flops_fl.options.reading import parse
from flops_fl.options.told import words
from flops_fl.project.sla import BUILD
from flops_fl.table import COMMANDS
from tests.conftest import NUMPY
from tests.data.serving import DataServer
from tests.images import tiny
from tests.project.test_project_sla import GOOD, WRONG

SLA = {
    "customerID": "Admin",
    "ml_repo_url": str(NUMPY),
    "training_configuration": {
        "data_tags": ["digits"],
        "training_rounds": 2,
        "min_available_clients": 2,
        "min_fit_clients": 2,
        "min_evaluate_clients": 2,
    },
}
IN_CLUSTERS = {"mode": "hierarchical", "training_cycles": 4}


def project(folder, training=None, **changes):
    """A project's file."""
    trained = SLA["training_configuration"] | (training or {})
    file = folder / "SLA.json"
    file.write_text(json.dumps(SLA | {"training_configuration": trained} | changes))
    return file


@pytest.fixture
def nothing_starts(monkeypatch):
    def start(*_, **__):
        raise AssertionError

    monkeypatch.setattr("subprocess.Popen", start)
    monkeypatch.setattr("socket.socket.bind", start)


@pytest.mark.parametrize(("right", "wrong", "said"), WRONG)
def test_nothing_starts_if_the_file_has_a_mistake(tmp_path, nothing_starts, right, wrong, said):
    file = tmp_path / "SLA.json"
    file.write_text(GOOD.replace(right, wrong, 1))
    with pytest.raises(UsageError, match=re.escape(f"SLA.json: {said}")) as refused:
        cli.run(["project", "run", str(file), "--data", "mnist=digits"])
    assert refused.value.exit_code == 2
    assert [*tmp_path.iterdir()] == [file]


def planned(file, *more, capsys):
    cli.run(["project", "plan", str(file), "--json", *map(str, more)])
    return json.loads(capsys.readouterr().out)["starts"]


def test_each_place_of_data_gets_a_learner(tmp_path, digits, capsys):
    starts = planned(project(tmp_path), "--data", digits, capsys=capsys)
    names = ["aggregator", "learner-0", "learner-1", "learner-2"]
    assert [each["name"] for each in starts] == names
    for index, start in enumerate(starts[1:]):
        said = shlex.split(start["command"])
        assert said[said.index("--data") + 1] == str(digits / f"part-{index}")
        assert said[said.index("--data-tags") + 1] == "digits"


def test_a_place_without_data_is_named(tmp_path, digits, capsys, caplog):
    shutil.copytree(digits, tmp_path / "parts")
    (tmp_path / "parts" / "part-9").mkdir()
    starts = planned(project(tmp_path), "--data", tmp_path / "parts", capsys=capsys)
    assert len(starts) == 1 + 3
    assert "no data in part-9 of" in caplog.text


def test_learners_take_turns_where_there_are_fewer_places(tmp_path, digits, capsys, caplog):
    data = ["--data", digits / "part-0", "--data", "grpc://127.0.0.1:11027", "--learners", 3]
    starts = planned(project(tmp_path), *data, capsys=capsys)
    places = [re.search(r"--data (\S+)", each["command"])[1] for each in starts[1:]]
    assert places == [str(digits / "part-0"), "grpc://127.0.0.1:11027", str(digits / "part-0")]


@pytest.mark.parametrize("command", [["plan"], ["render", "--for", "compose", "--out", "out"]])
def test_no_more_learners_than_a_machine_could_ever_host(tmp_path, monkeypatch, command):
    monkeypatch.chdir(tmp_path)
    many = project(tmp_path, {**IN_CLUSTERS, "min_available_clients": 5_000})
    line = ["project", command[0], str(many), *command[1:], "--data", "none"]
    with pytest.raises(UsageError, match="5,000 learners in each of 3 clusters: .*10,000 in all"):
        cli.run([*line, "--clusters", "3"])
    with pytest.raises(UsageError, match="--learners 10001: expected at most 10,000"):
        cli.run([*line, "--learners", "10001"])


def test_a_repository_may_have_its_own_data(tmp_path, capsys):
    starts = planned(project(tmp_path), "--data", "none", capsys=capsys)
    assert [each["name"] for each in starts] == ["aggregator", "learner-0", "learner-1"]
    assert not any("--data" in each["command"] for each in starts)


def test_the_plan_of_a_tree_is_what_the_manager_would_start(tmp_path, capsys):
    file = project(tmp_path, IN_CLUSTERS, post_training_steps=[])
    starts = planned(file, "--data", "digits=digits", "--output", tmp_path / "out", capsys=capsys)
    said = {each["name"]: each["command"] for each in starts}
    assert list(said) == [
        "digits", "root", "cluster-0", "cluster-1",
        "learner-0", "learner-1", "learner-2", "learner-3",
    ]  # fmt: skip
    two = "--min-available-clients 2 --min-fit-clients 2 --min-evaluate-clients 2"
    assert f"--role root --rounds 4 {two}" in _sorted(said["root"])
    assert f"--role cluster --root 127.0.0.1:8080 --rounds 2 {two}" in _sorted(said["cluster-1"])
    assert "--aggregator 127.0.0.1:8082" in said["learner-3"]
    assert "--parts 4 --tag digits" in said["digits"]


def _sorted(command):
    """The options of interest in one order."""
    names = ("--role", "--root", "--rounds", "--min-available-clients", "--min-fit-clients",
             "--min-evaluate-clients")  # fmt: skip
    said = shlex.split(command)
    return " ".join(
        part for name in names if name in said for part in (name, said[said.index(name) + 1])
    )


@pytest.mark.parametrize(
    "line",
    [
        "aggregator repo --rounds 7 --listen 0.0.0.0:8080 --insecure --resume --json "
        "--strategy FedAdam --strategy-option eta=0.5 --strategy-option tau=1 --checkpoints all "
        "--memory-budget 3GiB --notify mqtt://broker,https://example.org/hook --register a@b",
        "learner 'a repo' --aggregator 127.0.0.1:8080 --data grpc://127.0.0.1:1,grpc://127.0.0.1:2 "
        "--data-tags a,b --learner-id x",
        "data partition digits --parts 3 --tag a --out 'the parts' --partition dirichlet:0.3",
        "project run file.json --data a --data 'b c' --learners 3 --round-timeout 1.5",
    ],
)
def test_words_give_the_options_that_they_came_from(line):
    said = shlex.split(line)
    name = next(name for name in COMMANDS if said[: len(name.split())] == name.split())
    cls = COMMANDS[name].options_class
    options = parse(cls, name, "", said[len(name.split()) :], {})
    assert parse(cls, name, "", words(options), {}) == options


def test_words_have_no_password():
    cls = COMMANDS["aggregator"].options_class
    said = ["https://me:secret@example.org/r.git", "--notify", "mqtt://me:secret@broker"]
    shown = " ".join(words(parse(cls, "aggregator", "", said, {})))
    assert shown == "https://example.org/r.git --notify mqtt://me@broker:9027"


@pytest.mark.parametrize("how", [(), ("--json",)])
def test_a_plan_has_no_password(tmp_path, how, capsys):
    file = project(tmp_path, ml_repo_url="https://me:secret@example.org/r.git")
    cli.run(["project", "plan", str(file), "--data", "digits=digits", *how])
    said = capsys.readouterr().out
    assert "https://example.org/r.git" in said
    assert "secret" not in said


def test_what_is_said_of_the_image_is_the_images(tmp_path, capsys):
    file = project(tmp_path, post_training_steps=["build_image_for_trained_model"])
    *_, image = planned(file, "--data", "digits=digits", "--cpu", "--base", "b:1", capsys=capsys)
    assert {"--cpu", "--base", "b:1", "inference"} <= set(shlex.split(image["command"]))


def test_the_parts_of_each_plan_are_in_its_own_run(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    file = project(tmp_path, IN_CLUSTERS)
    for run in ("runs/numpy_minimal", "runs/numpy_minimal-2"):
        split, *_, learner = planned(file, "--data", "digits=digits", capsys=capsys)
        assert split["where"] == f"in {run}/parts"
        assert f"--out {run}/parts" in split["command"]
        assert f"--data {run}/parts/part-3" in learner["command"]
        (tmp_path / run).mkdir(parents=True)
    split, *_ = planned(file, "--data", "digits=digits", "--output", "mine", capsys=capsys)
    assert "--out mine/parts" in split["command"]


FAKE = """#!/bin/sh
echo "$1" >> told
case "$1" in ($FAILS) exit 3;; esac
"""


@pytest.mark.parametrize("training", [{}, IN_CLUSTERS])
@pytest.mark.parametrize(
    ("fails", "code", "last"),
    [("data", 3, {"data"}), ("aggregator", 3, {"aggregator", "learner"}), ("-", 0, {"serve"})],
)
def test_a_plans_script_ends_where_a_step_fails(tmp_path, capsys, training, fails, code, last):
    steps = ["build_image_for_trained_model", "deploy_trained_model_image"]
    file = project(tmp_path, training, post_training_steps=steps)
    cli.run(["project", "plan", str(file), "--data", "digits=digits"])
    fake = tmp_path / "flops-fl"
    fake.write_text(FAKE)
    fake.chmod(0o755)
    done = subprocess.run(
        ["bash"], input=capsys.readouterr().out, cwd=tmp_path, text=True, check=False, timeout=60,
        env={**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}", "FAILS": fails},
    )  # fmt: skip
    assert done.returncode == code
    told = (tmp_path / "told").read_text().split()
    assert (told[0], told[-1] in last, "image" in told) == ("data", True, code == 0)


@pytest.mark.parametrize(
    ("repo", "said"),
    [("nowhere", "no ML repository at '{}': expected a folder"), (".", "{} has no model_manager")],
)
def test_a_folder_without_a_repository_is_refused_by_plan_as_by_run(tmp_path, repo, said):
    file = project(tmp_path, ml_repo_url=repo)
    place = (tmp_path / repo).resolve()
    for command in ("plan", "run"):
        with pytest.raises(FlopsError, match=re.escape(said.format(place))):
            cli.run(["project", command, str(file), "--data", "none"])


def test_a_base_that_is_not_there_is_found_before_the_training(tmp_path, nothing_starts):
    base = tiny.base(tmp_path / "base", "linux/amd64")
    file = project(
        tmp_path, post_training_steps=[BUILD], supported_platforms=["linux/amd64", "linux/arm64"]
    )
    with pytest.raises(UsageError, match="has no image for linux/arm64"):
        cli.run(["project", "run", str(file), "--data", "digits=digits", "--base", str(base)])


def test_data_that_are_not_there_are_found_before_the_training(tmp_path, monkeypatch):
    server = DataServer(tmp_path / "store")
    monkeypatch.chdir(tmp_path)
    file = project(tmp_path)
    try:
        with pytest.raises(DataError, match="no data with a tag among digits at grpc://"):
            cli.run(["project", "run", str(file), "--data", f"grpc://{server.address}"])
    finally:
        server.stop()
    assert not (tmp_path / "runs").exists()
