"""Clusters: an aggregator that is one learner to its root, in real processes."""

import json
import os
import shutil
import signal

import numpy as np
import pytest

from tests.certificates import HERE
from tests.conftest import NUMPY, wait_for_port, wait_until
from tests.trees import HALVES, LEARNERS, free_address


@pytest.mark.slow
def test_a_tree_with_one_round_a_cycle_gives_the_model_of_the_flat_federation(tree, processes):
    root = tree.root(2, "--rounds", 5, "--seed", 4)
    clusters = [tree.cluster(name, 2, "--rounds", 1) for name in HALVES]
    learners = [tree.learners(names, above=name) for name, names in HALVES.items()]
    found = processes.result(root)
    for process in (*clusters, *learners):
        processes.finish(process)
    assert found["status"] == "completed"
    last = found["rounds"][-1]
    assert last["clusters"] == {name: {"learners": 2, "failures": 0} for name in HALVES}
    inner = json.loads((processes.folder / "c0" / "result.json").read_text())
    assert inner["status"] == "completed"
    assert len(inner["rounds"]) == 5
    said = processes.stderr(clusters[0])
    assert "round 5 " in said
    assert "5 in " in said
    assert " of 1 in" not in said  # nobody but the root knows of how many

    flat = tree.root(4, "--rounds", 5, "--seed", 4, output="flat")
    tree.learners(LEARNERS)
    expected = processes.result(flat)
    for ours, theirs in zip(tree.model(), tree.model("flat"), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-6, atol=1e-7)
    for ours, theirs in zip(found["rounds"], expected["rounds"], strict=True):
        assert ours["fit_examples"] == theirs["fit_examples"]
        assert ours["examples"] == theirs["examples"]
        assert ours["accuracy"] == pytest.approx(theirs["accuracy"], abs=1e-6)
        assert ours["loss"] == pytest.approx(theirs["loss"], rel=1e-5)


@pytest.mark.slow
def test_a_cluster_without_learners_says_so_and_its_root_goes_on_without(tree, processes):
    root = tree.root(1, "--rounds", 2, "--min-available-clients", 1)
    lonely = tree.cluster("c0", 2, "--join-timeout", 1)
    tree.learners(["l1"])
    processes.finish(lonely, code=4)
    assert "0 of 2 learners (--min-available-clients)" in processes.stderr(lonely)
    assert processes.result(root)["rounds"][-1]["learners"] == ["l1"]


@pytest.mark.slow
def test_a_cluster_without_a_root_names_it_and_its_option_also_to_its_learners(tree, processes):
    lonely = tree.cluster("c0", 1, "--connect-timeout", 1)
    learner = tree.learners(["l1"], above="c0")
    processes.finish(lonely, code=4)
    processes.finish(learner, code=4)
    said = processes.stderr(lonely)
    assert "0 of 1 learners present" in said
    assert f"no root at {processes.address} for " in said
    assert "(--connect-timeout)" in said
    told = processes.stderr(learner)
    assert f"failed: at this cluster's aggregator: no root at {processes.address}" in told


def marks(folder):
    return sorted(path.name for path in folder.glob("mark*-fit-*"))


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_a_cluster_that_is_killed_goes_on_with_its_cycle(tree, processes, slow_repo):
    def run(output, kills):
        tree.repo = slow_repo
        root = tree.root(2, "--rounds", 3, output=output)
        env = {"FIT_SECONDS": "0.3"}
        rounds = ["--rounds", 3, "--fresh"]
        clusters = {name: tree.cluster(name, 2, *rounds) for name in HALVES}
        for name, names in HALVES.items():
            mark = str(processes.folder / f"mark-{output}-{name}")
            tree.learners(names, above=name, MARK=mark, **env)
        if kills:
            of_c0 = f"mark-{output}-c0-fit-*"
            wait_until(lambda: len(list(processes.folder.glob(of_c0))) >= 9, 90)  # second cycle
            os.kill(clusters["c0"].pid, signal.SIGKILL)
            clusters["c0"].wait()
            other = tree.cluster("c0", 2, "--rounds", 2, "--resume")
            processes.finish(other, code=2)  # its versions would name other models
            assert "'rounds_of_a_cycle': 3" in processes.stderr(other)
            clusters["c0"] = tree.cluster("c0", 2, "--rounds", 3, "--resume")
        result = processes.result(root)
        for cluster in clusters.values():
            processes.finish(cluster)
        fits = len(list(processes.folder.glob(f"mark-{output}-*-fit-*")))
        return result, fits, clusters["c0"]

    calm, fits, _ = run("calm", kills=False)
    assert fits == 4 * 3 * 3
    disturbed, again, resumed = run("killed", kills=True)
    assert disturbed["model_sha256"] == calm["model_sha256"]
    assert "if that has ended meanwhile nobody says so" in processes.stderr(resumed)
    assert again == fits  # nobody trained a task twice


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_a_root_that_is_interrupted_in_a_cycle_has_no_learner_train_twice(
    tree, processes, slow_repo
):
    tree.repo = slow_repo
    root = tree.root(1, "--rounds", 2)
    cluster = tree.cluster("c0", 2, "--rounds", 3, "--max-backoff", 0.5)
    env = {"MARK": str(processes.folder / "mark"), "FIT_SECONDS": "0.5"}
    learners = tree.learners(HALVES["c0"], above="c0", **env)
    wait_until(lambda: len(marks(processes.folder)) >= 3, 60)
    root.terminate()
    processes.finish(root, code=130)
    assert processes.result(tree.root(1, "--rounds", 2, "--resume"))["status"] == "completed"
    processes.finish(cluster)
    processes.finish(learners)
    assert len(marks(processes.folder)) == 2 * 2 * 3


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_a_cluster_that_has_lost_its_disk_begins_its_cycle_anew(tree, processes, slow_repo):
    tree.repo = slow_repo
    root = tree.root(1, "--rounds", 2)
    cluster = tree.cluster("c0", 2, "--rounds", 3)
    env = {"MARK": str(processes.folder / "mark"), "FIT_SECONDS": "0.3"}
    learners = tree.learners(HALVES["c0"], above="c0", **env)
    wait_until(lambda: len(marks(processes.folder)) >= 9, 60)  # in the second cycle's second round
    cluster.kill()
    cluster.communicate()
    shutil.rmtree(processes.folder / "c0")
    cluster = tree.cluster("c0", 2, "--rounds", 3)
    found = processes.result(root)
    processes.finish(cluster)
    processes.finish(learners)
    assert not any(record["failures"] for record in found["rounds"])


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_a_cluster_with_more_rounds_than_its_root_has_time_gives_what_it_has(
    tree, processes, slow_repo
):
    """Ten rounds of about 1 s, the learners one after the other, in a deadline of 6 s."""
    tree.repo = slow_repo
    root = tree.root(1, "--rounds", 2, "--round-timeout", 6)
    cluster = tree.cluster("c0", 2, "--rounds", 10)
    env = {"MARK": str(processes.folder / "mark"), "FIT_SECONDS": "0.5"}
    tree.learners(HALVES["c0"], above="c0", **env)
    found = processes.result(root)
    processes.finish(cluster)
    for record in found["rounds"]:
        assert record["clusters"] == {"c0": {"learners": 2, "failures": 0}}
    assert "the root's deadline ends the cycle after round" in processes.stderr(cluster)
    assert 2 * 2 < len(marks(processes.folder)) < 2 * 2 * 10


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_three_levels_and_a_plain_learner_beside_a_cluster(tree, processes):
    root = tree.root(2, "--rounds", 2)
    middle = tree.cluster("m", 2, "--rounds", 1)
    wait_for_port(f"127.0.0.1:{tree.ports['m']}")
    below = f"127.0.0.1:{tree.ports['m']}"
    lowest = tree.cluster("n", 2, "--rounds", 1, above=below)
    tree.learners(["l0"])
    tree.learners(["l1"], above="m")
    tree.learners(["l2", "l3"], above="n")
    found = processes.result(root)
    processes.finish(middle)
    processes.finish(lowest)
    assert found["rounds"][-1]["learners"] == ["l0", "m"]
    flat = tree.root(4, "--rounds", 2, output="flat")
    tree.learners(LEARNERS)
    processes.result(flat)
    for ours, theirs in zip(tree.model(), tree.model("flat"), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-6, atol=1e-7)


@pytest.mark.slow
def test_a_cluster_is_known_by_its_certificate_at_both_ends(tree, processes, authority):
    for name, role in (("root", "aggregator"), ("c0", "cluster"), ("l1", "learner")):
        authority.sign(name, hosts=HERE, roles=[role])
    root = tree.root(1, "--rounds", 2, *authority.options("root"))
    port = free_address().rpartition(":")[2]
    told = ["--role", "cluster", "--root", processes.address, "--listen", f"127.0.0.1:{port}"]
    told += ["--output", processes.folder / "c0", "--rounds", 1]
    wrong = processes.start("aggregator", NUMPY, *told, *authority.options("root"))
    processes.finish(wrong, code=5)
    assert "is for another role than cluster" in processes.stderr(wrong)
    cluster = processes.start("aggregator", NUMPY, *told, *authority.options("c0"))
    processes.start(
        "learner", NUMPY, "--aggregator", f"127.0.0.1:{port}", "--data", tree.quarters,
        "--data-tags", "{id}", *authority.options("l1"),
    )  # fmt: skip
    found = processes.result(root)
    assert found["rounds"][-1]["clusters"] == {"c0": {"learners": 1, "failures": 0}}
    processes.finish(cluster)


def test_options_of_one_role_are_refused_in_another(run_cli):
    code, _, said = run_cli("aggregator", NUMPY, "--root", "127.0.0.1:1")
    assert code == 2
    assert "--root is for --role cluster" in said
    code, _, said = run_cli("aggregator", NUMPY, "--role", "cluster")
    assert code == 2
    assert "--role cluster needs --root HOST:PORT" in said
    told = ["--role", "cluster", "--root", "127.0.0.1:1", "--seed", 1]
    code, _, said = run_cli("aggregator", NUMPY, *told)
    assert code == 2
    assert "--seed is the root's" in said
    told = ["--role", "cluster", "--root", "127.0.0.1:1", "--strategy", "FedXgbBagging"]
    code, _, said = run_cli("aggregator", NUMPY, *told)
    assert code == 2
    assert "would join it twice" in said


TOLD = """
import os

class ModelManager(ModelManager):
    def fit_model(self, config):
        with open(os.environ["MARK"], "a") as file:
            file.write(f"{config['proximal_mu']}\\n")
        return super().fit_model()
"""


@pytest.mark.slow
def test_what_fedprox_tells_its_learners_reaches_those_of_clusters(tree, processes, tmp_path):
    tree.repo = tmp_path / "repo"
    shutil.copytree(NUMPY, tree.repo)
    with (tree.repo / "model_manager.py").open("a") as code:
        code.write(TOLD)
    prox = ["--strategy", "FedProx", "--strategy-option", "proximal_mu=0.25"]
    root = tree.root(1, "--rounds", 2, *prox)
    cluster = tree.cluster("c0", 2, "--rounds", 2)
    tree.learners(HALVES["c0"], above="c0", MARK=str(tmp_path / "told"))
    processes.result(root)
    processes.finish(cluster)
    assert (tmp_path / "told").read_text().split() == ["0.25"] * 2 * 2 * 2
