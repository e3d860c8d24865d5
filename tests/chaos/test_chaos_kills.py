"""Kills and cuts at random instants: the model is the same to the bit, and no fit is wasted.

`make chaos` runs the long version. CHAOS_SEED=N repeats one; the seed is printed.
"""

import os
import random
import threading
import time
from collections import Counter

import pytest

from tests.chaos.federation import LEARNERS, LONGEST, Federation, check_folder, figures
from tests.chaos.network import Namespace, namespaces_work
from tests.proxy import Proxy

SEED = int(os.environ.get("CHAOS_SEED", random.SystemRandom().randrange(10**6)))


def chaos(processes, slow_repo, digits, undisturbed, *, rounds, kills, learner_kills):
    print(f"CHAOS_SEED={SEED}")
    generator = random.Random(SEED)
    expected = undisturbed(rounds)
    run = Federation(processes, slow_repo, digits, rounds, 0.2)
    due = ["aggregator"] * kills + ["learner"] * learner_kills
    generator.shuffle(due)
    begin = time.monotonic()
    watch = threading.Thread(target=run.watch, daemon=True)
    watch.start()
    done = {"aggregator": 0, "learner": 0}
    for victim in due:
        if victim == "aggregator":
            # From its first instant to some rounds on.
            time.sleep(generator.uniform(0.0, 4.5))
        else:
            time.sleep(generator.uniform(0.0, 1.0))
        # A learner that is started after the end has nobody to tell it so.
        if run.safe_rounds() > rounds - 3 or time.monotonic() - begin > LONGEST:
            break
        if victim == "aggregator":
            run.kill_aggregator()
        else:
            run.kill_learner(generator.randrange(LEARNERS))
        done[victim] += 1
    result = run.result()
    run.killed = None  # a kill after the last round has nothing to recover
    watch.join(10)
    print(f"kills {done}, {time.monotonic() - begin:.0f} s, recovered in {run.slowest:.1f} s")
    assert figures(result) == expected
    assert not any(entry["failures"] for entry in result["rounds"])
    # A kill of the aggregator costs no fit: learners keep their answers. A learner's own kill
    # costs the one it was in, or had not delivered. (A fit may also be handed in twice over a
    # connection that broke, never computed twice.)
    fits, needed = run.fits(), rounds * LEARNERS
    print(f"fits {fits}, {needed} needed")
    assert needed <= fits <= needed + done["learner"]
    check_folder(processes.folder / "run")
    return done


@pytest.mark.slow
def test_a_few_kills_change_nothing(processes, slow_repo, digits, undisturbed):
    done = chaos(processes, slow_repo, digits, undisturbed, rounds=16, kills=2, learner_kills=1)
    assert sum(done.values()) >= 1


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_many_kills_change_nothing(processes, slow_repo, digits, undisturbed):
    done = chaos(processes, slow_repo, digits, undisturbed, rounds=60, kills=20, learner_kills=20)
    assert done == {"aggregator": 20, "learner": 20}


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("network", [Proxy, Namespace])
def test_a_bad_network_changes_nothing(processes, slow_repo, digits, undisturbed, network):
    if network is Namespace and not namespaces_work():
        pytest.skip("no network namespaces: they take root, iproute2 and the kernel's consent")
    print(f"CHAOS_SEED={SEED}")
    generator = random.Random(SEED)
    expected = undisturbed(20)
    between = network(processes.address)
    try:
        # Small chunks, so that faults come in the middle of a model, too.
        run = Federation(
            processes, slow_repo, digits, 20, 0.3, through=between, env={"PIECES": "1"}
        )
        begin = time.monotonic()
        while not run.over() and time.monotonic() - begin < LONGEST:
            time.sleep(generator.uniform(0.3, 2.0))
            if len(between.faults) < 20 and not run.over():
                between.misbehave(generator)
        result = run.result()
    finally:
        between.close()
    print(f"faults {Counter(between.faults)}, {time.monotonic() - begin:.0f} s")
    assert len(between.faults) >= 3
    assert figures(result) == expected
    assert run.fits() == 20 * LEARNERS
    check_folder(processes.folder / "run")
