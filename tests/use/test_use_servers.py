"""A learner's data of a data server, in all commands that take --data."""

import json

import pyarrow.parquet as pq
import pytest

import flops_fl
from flops_fl.errors import UsageError
from tests.conftest import NUMPY
from tests.data.serving import DataServer, put


@pytest.fixture(scope="module")
def server(tmp_path_factory, digits):
    """A server with the digits of two learners; each learner's id is its tag."""
    started = DataServer(tmp_path_factory.mktemp("use") / "data")
    for number in (0, 1):
        (file,) = (digits / f"part-{number}").glob("*.parquet")
        put(started.client(), f"l{number}.1.parquet", pq.read_table(file))
    yield f"grpc://{started.address}"
    started.stop()


def test_the_object_gets_a_servers_data(server, digits):
    manager = flops_fl.open_repository(NUMPY, data=server, data_tags=["{id}"], learner="l0")
    theirs = flops_fl.open_repository(NUMPY, data=digits / "part-0", learner="l0")
    assert (manager.train[0] == theirs.train[0]).all()
    with pytest.raises(UsageError, match="'parts' is no data server"):
        flops_fl.open_repository(NUMPY, data=f"{server},parts")


@pytest.mark.slow
@pytest.mark.timeout(400)  # a dozen commands
def test_commands_give_with_a_server_what_they_give_with_its_files(
    run_cli, server, digits, processes, tmp_path
):
    leader = processes.aggregator(
        NUMPY, "--rounds", 2, "--output", tmp_path / "run", "--checkpoints", "all"
    )
    learner = processes.learner(NUMPY, server, "l0", "--data-tags", "{id}")
    processes.result(leader)
    processes.finish(learner)

    def done(*words, code=0):
        said = run_cli("flops_fl", *words)
        assert said[0] == code, said[2]
        return said

    here = [*("--data", digits / "part-0", "--learner", "l0")]
    there = [*("--data", server, "--data-tags", "{id}", "--learner", "l0")]
    run = tmp_path / "run"
    for command in (["evaluate", run], ["replay", run, "--round", 2]):
        local, remote = (json.loads(done(*command, *of, "--json")[1]) for of in (here, there))
        assert local == remote
    assert local["data"] == local["recorded_data"]
    other = ["--data", server, "--data-tags", "l1", "--learner", "l0"]
    _, out, said = done("replay", run, "--round", 2, *other, "--json")
    answer = json.loads(out)
    assert answer["recorded_data"] == local["data"] != answer["data"]
    hashes = f"their hash was {local['data']} and is {answer['data']}"
    assert f"these are not the data that l0 had in round 2: {hashes}" in said

    checked = json.loads(done("check", NUMPY, *there, "--json")[1])
    assert checked["findings"] == []
    assert checked["facts"]["rows"] == 599
    done("export", run, *there, "--out", tmp_path / "model.npz")
    program = ["--", "python", "-c", "import data_manager as d; print(len(d.load_dataset()))"]
    assert done("run", NUMPY, *there, *program)[1] == "599\n"
    wrong = [*("--data", server, "--data-tags", "none")]
    assert "the tags there are l0, l1" in done("run", NUMPY, *wrong, *program, code=2)[2]
