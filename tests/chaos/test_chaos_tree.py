"""A tree whose processes are killed and whose link to the root breaks gets the same model."""

import os
import random
import signal
import time

import pytest

from tests.chaos import actor
from tests.chaos.federation import LONGEST, figures
from tests.chaos.tree import MEMBERS, Tree
from tests.conftest import wait_until
from tests.proxy import Proxy

pytestmark = [pytest.mark.slow, pytest.mark.timeout(2 * LONGEST)]
SEED = int(os.environ.get("CHAOS_SEED", random.SystemRandom().randrange(10**6)))

# A cluster has no MLflow here; and once its root has ended, nobody is there to go on for.
NOT_HERE = {
    "tracking-round", "tracked-figures", "tracked-training", "before-model", "after-model",
    "before-result", "after-result",
}  # fmt: skip
OF_AGGREGATORS = [name for name in actor.AGGREGATORS if name not in NOT_HERE]


@pytest.fixture(scope="session")
def quarters(tmp_path_factory):
    """A folder with four learners' digits."""
    from flops_fl.data.command import partition_command

    folder = tmp_path_factory.mktemp("quarters")
    partition_command("digits", 4, "digits", folder)
    return folder


@pytest.fixture
def calm(processes, slow_repo, quarters, tmp_path):
    """The figures of a tree to which nothing happens."""

    def run(rounds):
        apart = type(processes)(tmp_path / "calm")
        apart.folder.mkdir()
        try:
            tree = Tree(apart, slow_repo, quarters, rounds, 0)
            found = figures(tree.result())
            tree.check_fits()
            return found
        finally:
            apart.stop()

    return run


@pytest.mark.parametrize(
    ("victim", "instants", "cycles"),
    [
        ("c0", [*OF_AGGREGATORS, *actor.CLUSTERS], 30),
        ("root", [*OF_AGGREGATORS, "before-result", "after-result"], 45),
        ("l2", [*actor.LEARNERS], 6),
    ],
)
def test_a_process_of_a_tree_killed_at_any_step_loses_nothing(
    processes, slow_repo, quarters, calm, victim, instants, cycles
):
    """Each step once, one after the other, in one run."""
    expected = calm(cycles)
    tree = Tree(processes, slow_repo, quarters, cycles, 0.02, without=victim)
    for instant in instants:
        # Not the first call of those that come with the start, before there is much to lose.
        often = victim != "l2" and instant in OF_AGGREGATORS
        process = tree.start(victim, fault=f"{instant}:{2 if often else 1}")
        process.wait(90)
        process.stdout.close()
        assert process.returncode == -signal.SIGKILL, (instant, processes.stderr(process))
    tree.start(victim)
    assert figures(tree.result()) == expected
    tree.check_fits(kills=len(instants), of=victim)


def test_a_tree_survives_kills_at_random(processes, slow_repo, quarters, calm):
    print(f"CHAOS_SEED={SEED}")
    generator = random.Random(SEED)
    cycles, kills = 40, 24
    expected = calm(cycles)
    tree = Tree(processes, slow_repo, quarters, cycles, 0.1)
    due = [*("root", "c0", "c1", "l1") * (kills // 4)]
    generator.shuffle(due)
    done = []
    for victim in due:
        time.sleep(generator.uniform(0.0, 4.0))
        # A process that is started after the end has nobody to tell it so.
        if tree.safe_cycles() > cycles - 2:
            break
        tree.kill(victim)
        done.append(victim)
    print(f"killed {done}")
    assert figures(tree.result()) == expected
    tree.check_fits(kills=done.count("l1"), of="l1")
    assert len(done) >= kills // 2


def test_a_link_to_the_root_that_breaks_again_and_again_repeats_no_cycle(
    processes, slow_repo, quarters, calm
):
    print(f"CHAOS_SEED={SEED}")
    generator = random.Random(SEED)
    cycles = 12
    expected = calm(cycles)
    between = Proxy(processes.address)
    outages = 0
    try:
        tree = Tree(processes, slow_repo, quarters, cycles, 0.3, through=between)
        while tree.safe_cycles() < 1:
            time.sleep(0.1)
        while not tree.over():
            time.sleep(generator.uniform(1.0, 4.0))
            if tree.safe_cycles() < cycles - 1 and outages < 12:
                seconds = generator.uniform(1.0, 5.0)
                between.outage(seconds)
                time.sleep(seconds)
                outages += 1
        found = tree.result()
    finally:
        between.close()
    print(f"{outages} outages")
    assert outages >= 3
    assert figures(found) == expected
    tree.check_fits()


def test_a_link_that_is_away_as_often_as_it_is_there_repeats_no_cycle(
    processes, slow_repo, quarters, calm
):
    """Ten seconds for a minute: cycles are longer, so each ends in an outage or lives through one.

    With a minute each and cycles of 90 s the same happens, but for the pings of `--keepalive`.
    """
    cycles, away = 3, 10.0
    expected = calm(cycles)
    between = Proxy(processes.address)
    outages = 0
    try:
        tree = Tree(processes, slow_repo, quarters, cycles, 4.0, through=between)
        wait_until(lambda: all(tree.fits(name) for name in MEMBERS), 60)
        while not tree.over():
            between.outage(away)
            outages += 1
            time.sleep(2 * away)
        found = tree.result()
    finally:
        between.close()
    assert outages >= cycles
    assert figures(found) == expected
    tree.check_fits()
