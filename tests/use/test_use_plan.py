"""`flops-fl plan`: its arithmetic is checked by hand and against a measured federation."""

import json

import pytest

from flops_fl.core.forecast import Link, Work, forecast, layouts
from tests.conftest import ROOT

ALIKE = Link(up=10.0, down=20.0)


def test_flat_learners_share_the_roots_link():
    found = forecast((4,), Work(model=100, seconds=7), ALIKE, ALIKE)
    assert found.seconds == 4 * 100 / 10 + 7 + 4 * 100 / 20
    assert (found.root_sends, found.root_receives, found.all_links) == (400, 400, 800)


def test_a_learners_own_link_bounds_it_where_the_roots_is_wide():
    found = forecast((4,), Work(model=100, seconds=7), Link(up=1e6, down=1e6), ALIKE)
    assert found.seconds == 100 / 20 + 7 + 100 / 10


def test_a_cycle_is_so_many_rounds_of_a_cluster():
    found = forecast((2, 6), Work(model=100, seconds=7, cycle=3), ALIKE, ALIKE)
    inner = 3 * (3 * 100 / 10 + 7 + 3 * 100 / 20)
    assert found.seconds == 2 * 100 / 10 + inner + 2 * 100 / 20
    assert (found.root_sends, found.root_receives) == (200, 200)
    assert found.all_links == 2 * 100 * (2 + 3 * 6)
    assert found.rounds == 3


def test_levels_are_even_and_each_has_more_than_the_one_above():
    assert layouts(1000, None, 3) == [(1000,), (32, 1000), (10, 100, 1000), (6, 33, 182, 1000)]
    assert layouts(1000, 10, 2) == [(1000,), (10, 1000), (10, 100, 1000)]
    assert layouts(2, None, 3) == [(2,)]
    assert layouts(5, 4, 3) == [(5,), (4, 5)]


LINKS = ("--uplink", "20Mbit", "--downlink", "2.5MB/s")


@pytest.mark.slow
@pytest.mark.parametrize("clusters", [None, 2])
def test_a_simulation_sends_what_was_calculated(run_cli, tmp_path, clusters):
    size, tree = 400_000, ["--clusters", clusters] if clusters else []
    code, out, said = run_cli(
        "flops_fl", "simulate", ROOT / "benchmarks/repos/noop", "--learners", 5, "--rounds", 3,
        "--data", "none", "--no-tracking", "--json", "--output", tmp_path / "run", *tree,
        *(["--cluster-rounds", 2] if clusters else []), env={"MODEL_BYTES": str(size)},
    )  # fmt: skip
    assert code == 0, said
    measured = json.loads(out)["rounds"]
    told = ["plan", "--learners", 5, "--model-bytes", size, *LINKS, *tree, "--json"]
    code, out, said = run_cli("flops_fl", *told)
    assert code == 0, said
    found = json.loads(out)[-1 if clusters else 0]
    assert found["levels"] == ([2, 5] if clusters else [5])
    assert [entry["bytes_up"] for entry in measured] == pytest.approx(
        [found["root_receives"]] * 3, rel=0.01
    )
    assert [entry["bytes_down"] for entry in measured] == pytest.approx(
        [2 * found["root_sends"], found["root_sends"], found["root_sends"]], rel=0.01
    )


def test_it_prints_a_table_and_names_what_is_wrong(run_cli):
    code, out, _ = run_cli("flops_fl", "plan", "--learners", 90, "--model-bytes", "1MB", *LINKS)
    assert code == 0
    assert "9 > 90" in out
    code, _, said = run_cli(
        "flops_fl", "plan", "--learners", 2, "--clusters", 3, "--model-bytes", 1, "--uplink", 20,
        "--downlink", "1Gbit",
    )  # fmt: skip
    assert code == 2
    assert "--uplink 20: expected a rate such as 20Mbit" in said
