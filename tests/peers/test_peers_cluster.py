"""A stock Flower client among the learners of a cluster."""

import numpy as np
import pytest

from tests.conftest import wait_for_port
from tests.peers.test_peers_flower import stock


@pytest.mark.slow
def test_a_stock_client_in_a_cluster_counts_as_in_a_flat_federation(tree, processes):
    def play(output, at, above=None):
        wait_for_port(at)
        learners = [tree.learners(["l0"], above=above), stock(processes, "works", at=at)]
        learners.append(tree.learners(["l1"]))  # beside the cluster
        found = processes.result(root)
        assert learners[1].wait(20) == 0
        return found["rounds"], tree.model(output)

    root = tree.root(2, "--rounds", 2, output="root")
    cluster = tree.cluster("c0", 2, "--rounds", 1)
    rounds, model = play("root", f"127.0.0.1:{tree.ports['c0']}", above="c0")
    processes.finish(cluster)
    assert rounds[-1]["learners"] == ["c0", "l1"]
    assert rounds[-1]["clusters"] == {"c0": {"learners": 2, "failures": 0}}
    assert not any(entry["failures"] for entry in rounds)

    root = tree.root(3, "--rounds", 2, output="flat")
    expected, flat = play("flat", processes.address)
    for ours, theirs in zip(model, flat, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-6, atol=1e-7)
    for ours, theirs in zip(rounds, expected, strict=True):
        assert ours["examples"] == theirs["examples"]
        assert ours["accuracy"] == pytest.approx(theirs["accuracy"], abs=1e-6)
