"""Nodes with a data server each: devices put, a learner trains, and the history knows on what."""

import json
import subprocess
import sys

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from flops_fl.data.content import hash_of
from flops_fl.data.folder import load_folder
from tests.conftest import LIMIT, ROOT, wait_until
from tests.data.serving import DataServer, put, rows
from tests.seed import PAGE, seed_repository

DEVICE = """
import sys
import pyarrow.parquet as pq
import flops_fl.data

file, server = sys.argv[1:]
batches = pq.ParquetFile(file).iter_batches(batch_size=50)
print(flops_fl.data.put(batches, tag="digits", server=server))
"""


@pytest.fixture
def nodes(tmp_path):
    started = [DataServer(tmp_path / name) for name in ("node-0", "node-1")]
    yield started
    for server in started:
        server.stop()


def run(*words):
    done = subprocess.run(
        [sys.executable, *map(str, words)], cwd=ROOT, capture_output=True, text=True, timeout=LIMIT,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.skipif(not PAGE.exists(), reason="the contract's page lies beside a checkout only")
def test_two_nodes_with_two_senders_each_train_the_model_of_folders(
    processes, nodes, digits_28, tmp_path
):
    repo = seed_repository(tmp_path / "seed")
    for number, node in enumerate(nodes):
        url = f"grpc://{node.address}"
        (file,) = (digits_28 / f"part-{number}").glob("*.parquet")
        table = pq.read_table(file)
        halves = [tmp_path / f"{number}-{half}.parquet" for half in "ab"]
        pq.write_table(table.slice(0, 250), halves[0])
        pq.write_table(table.slice(250), halves[1])
        sent = [
            run("-m", "flops_fl", "data", "put", halves[0], "--tag", "digits", "--server", url),
            run("-c", DEVICE, halves[1], url),
        ]
        put(node.client(), "others.1.parquet", rows(1, 2, 3))  # of another tag
        assert sorted(sent) == node.files()[:2]
        folder = tmp_path / f"local-{number}"
        folder.mkdir()
        whole = pa.concat_tables([pq.read_table(node.folder / name) for name in sorted(sent)])
        pq.write_table(whole, folder / "rows.parquet")

    found = []
    for given in (
        [["--data", tmp_path / f"local-{number}"] for number in (0, 1)],
        [["--data", f"grpc://{node.address}", "--data-tags", "digits"] for node in nodes],
    ):
        leader = processes.aggregator(repo, "--rounds", 2, "--min-clients", 2, "--fresh")
        learners = [
            processes.start(
                "learner", repo, "--aggregator", processes.address, "--learner-id", f"l{n}", *words
            )
            for n, words in enumerate(given)
        ]
        found.append(processes.result(leader))
        for learner in learners:
            processes.finish(learner)
    local, remote = found
    assert local["model_sha256"] == remote["model_sha256"]
    assert remote["best"]["accuracy"] > 0.6
    assert local["rounds"][0]["new_data"] == remote["rounds"][0]["new_data"]
    hashes = {f"l{n}": hash_of(load_folder(tmp_path / f"local-{n}")) for n in (0, 1)}
    assert {
        name: entry["data"] for name, entry in remote["rounds"][0]["new_data"].items()
    } == hashes
    assert remote["rounds"][1]["new_data"] == {}


@pytest.mark.slow
def test_data_that_come_in_are_trained_on_and_the_history_tells_since_when(
    processes, nodes, digits, slow_repo, run_cli
):
    tables = []
    for number, node in enumerate(nodes):
        (file,) = (digits / f"part-{number}").glob("*.parquet")
        tables.append(pq.read_table(file))
        put(node.client(), "digits.1.parquet", tables[number].slice(0, 300))
    mark = processes.folder / "mark"
    env = {"MARK": str(mark), "FIT_SECONDS": "0.3"}
    leader = processes.aggregator(
        slow_repo, "--rounds", 25, "--min-clients", 2, "--checkpoints", "all"
    )
    learners = [
        processes.learner(
            slow_repo, f"grpc://{node.address}", f"l{number}", "--data-tags", "digits",
            "--refresh-data", "round", env=env,
        )
        for number, node in enumerate(nodes)
    ]  # fmt: skip
    wait_until(lambda: len(list(processes.folder.glob("mark-fit-*"))) >= 2, LIMIT)
    put(nodes[1].client(), "digits.2.parquet", tables[1].slice(300))
    wait_until(lambda: "new data" in processes.stderr(learners[1]), LIMIT)
    result = processes.result(leader)
    for learner in learners:
        processes.finish(learner)

    told = {each["round"]: each["new_data"] for each in result["rounds"] if each["new_data"]}
    (first, later) = told
    assert (first, set(told[1])) == (1, {"l0", "l1"})
    now = hash_of(load_folder(nodes[1].folder))
    assert told[later] == {"l1": {"data": now, "examples": len(tables[1]) * 4 // 5}}
    assert result["rounds"][later - 2]["fit_examples"] == 480
    assert result["rounds"][-1]["fit_examples"] == 240 + len(tables[1]) * 4 // 5

    words = ["replay", processes.folder / "run", "--repo", slow_repo, "--learner", "l1", "--json"]
    words += ["--data", nodes[1].folder]
    for round, same in ((later - 1, False), (later, True)):
        code, out, said = run_cli("flops_fl", *words, "--round", round, env=env)
        assert code == 0, said
        answer = json.loads(out)
        assert (answer["data"] == answer["recorded_data"]) == same
        assert ("these are not the data" in said) != same
