"""Clusters: an aggregator that is one learner to its root, in real processes."""

import json
import os
import shutil
import signal
import socket

import numpy as np
import pytest
from certificates import HERE
from conftest import NUMPY, wait_for_port, wait_until

LEARNERS = ("l0", "l1", "l2", "l3")
HALVES = {"c0": ("l0", "l3"), "c1": ("l1", "l2")}


@pytest.fixture(scope="module")
def quarters(tmp_path_factory):
    """A folder with four learners' digits, of unequal number; each learner's id is its tag."""
    from flops_fl.data.partition import write_partitions
    from flops_fl.data.sources import load_source

    folder = tmp_path_factory.mktemp("quarters")
    write_partitions(load_source("digits"), LEARNERS, folder, scheme="dirichlet:1", seed=3)
    return folder


class Tree:
    """A federation with clusters in it; `processes` ends them all."""

    def __init__(self, processes, quarters, repo=NUMPY):
        self.processes = processes
        self.quarters = quarters
        self.repo = repo
        self.ports = {}

    def root(self, children, *options, output="root"):
        folder = self.processes.folder / output
        return self.processes.start(
            "aggregator", self.repo, "--role", "root", "--listen", self.processes.address,
            "--min-clients", children, "--no-tracking", "--json", "--output", folder, *options,
        )  # fmt: skip

    def cluster(self, name, learners, *options, above=None, port=None):
        port = self.ports.setdefault(name, port or free_port())
        return self.processes.start(
            "aggregator", self.repo, "--role", "cluster", "--root", above or self.processes.address,
            "--listen", f"127.0.0.1:{port}", "--learner-id", name, "--min-clients", learners,
            "--output", self.processes.folder / name, *options,
        )  # fmt: skip

    def learners(self, names, above=None, **env):
        address = self.processes.address if above is None else f"127.0.0.1:{self.ports[above]}"
        return self.processes.start(
            "learner", self.repo, "--aggregator", address, "--learner-id", ",".join(names),
            "--data", self.quarters, "--data-tags", "{id}", env=env,
        )  # fmt: skip

    def model(self, output="root"):
        with np.load(self.processes.folder / output / "model-last.npz") as stored:
            return [stored[name] for name in sorted(stored)]


@pytest.fixture
def tree(processes, quarters):
    return Tree(processes, quarters)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


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


def test_a_cluster_without_learners_says_so_and_its_root_goes_on_without(tree, processes):
    root = tree.root(1, "--rounds", 2, "--min-available-clients", 1)
    lonely = tree.cluster("c0", 2, "--join-timeout", 1)
    tree.learners(["l1"])
    processes.finish(lonely, code=4)
    assert "0 of 2 learners (--min-available-clients)" in processes.stderr(lonely)
    assert processes.result(root)["rounds"][-1]["learners"] == ["l1"]


def marks(folder):
    return sorted(path.name for path in folder.glob("mark-*-fit-*"))


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
            clusters["c0"] = tree.cluster("c0", 2, "--rounds", 3, "--resume")
        result = processes.result(root)
        for cluster in clusters.values():
            processes.finish(cluster)
        fits = len(list(processes.folder.glob(f"mark-{output}-*-fit-*")))
        return result, fits

    calm, fits = run("calm", kills=False)
    assert fits == 4 * 3 * 3
    disturbed, again = run("killed", kills=True)
    assert disturbed["model_sha256"] == calm["model_sha256"]
    assert again == fits  # nobody trained a task twice


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


def test_a_simulated_tree_is_told_of_its_learners_failures(run_cli, tmp_path):
    repo = tmp_path / "repo"
    shutil.copytree(NUMPY, repo)
    told = ["simulate", repo, "--learners", 5, "--clusters", 2, "--rounds", 2, "--no-tracking"]
    code, out, said = run_cli("flops_fl", *told, "--json", cwd=tmp_path)
    assert code == 0, said
    last = json.loads(out)["rounds"][-1]
    assert last["clusters"]["cluster-0"] == {"learners": 3, "failures": 0}
    assert "2 clusters of 5 learners" in said
    code, out, said = run_cli(
        "flops_fl", "simulate", repo, "--learners", 5, "--rounds", 2, "--no-tracking", "--json",
        cwd=tmp_path,
    )  # fmt: skip
    flat = json.loads(out)["rounds"][-1]
    assert last["accuracy"] == pytest.approx(flat["accuracy"], abs=1e-6)

    code_of = (repo / "model_manager.py").read_text()
    (repo / "model_manager.py").write_text(code_of + BROKEN)
    code, _, said = run_cli("flops_fl", *told, cwd=tmp_path)
    assert code == 4
    assert "ZeroDivisionError" in said
    assert said.count("Traceback") <= 2  # one a cluster


BROKEN = """

class ModelManager(ModelManager):
    def fit_model(self):
        return 1 // 0
"""


def test_a_cluster_is_known_by_its_certificate_at_both_ends(tree, processes, authority):
    for name, role in (("root", "aggregator"), ("c0", "cluster"), ("l1", "learner")):
        authority.sign(name, hosts=HERE, roles=[role])
    root = tree.root(1, "--rounds", 2, *authority.options("root"))
    port = free_port()
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
