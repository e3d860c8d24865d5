"""A federation with rogue clients: the model of the honest ones, to the bit, in bounded memory.

`make fuzz` runs 10,000 streams. FUZZ_SEED=N repeats one run's choices; the seed is printed.
"""

import json
import os
import random
import re

import pytest

from tests.conftest import NUMPY, unstamped, wait_for_port, wait_until
from tests.fuzz import flood

SEED = int(os.environ.get("FUZZ_SEED", random.SystemRandom().randrange(10**6)))
HONEST = ["honest-0", "honest-1"]

# The fit of a round ends when the rogues have come so far: they meet a run in full swing.
GATED = """
import os, time
from pathlib import Path
from model_manager_plain import ModelManager as Plain

class ModelManager(Plain):
    rounds = 0

    def fit_model(self):
        self.rounds += 1
        gate = Path(os.environ["GATE"])
        gate.with_name(f"begun-{os.getpid()}").touch()
        while gate.exists() and len(gate.read_bytes()) < self.rounds * int(os.environ["PACE"]):
            time.sleep(0.01)
        return super().fit_model()
"""


@pytest.fixture
def gated_repo(tmp_path):
    folder = tmp_path / "repo"
    folder.mkdir()
    (folder / "model_manager_plain.py").write_text((NUMPY / "model_manager.py").read_text())
    (folder / "data_manager.py").write_text((NUMPY / "data_manager.py").read_text())
    (folder / "model_manager.py").write_text(GATED)
    return folder


def federation(processes, repo, digits, rounds, gate, pace, pieces=True):
    processes.folder.mkdir(exist_ok=True)
    env = {"GATE": str(gate), "PACE": str(pace)} | ({"PIECES": "1"} if pieces else {})
    options = ["aggregator", repo, "--listen", processes.address, "--rounds", rounds, "--json"]
    options += ["--output", processes.folder / "run", "--no-tracking", "--min-clients", 2]
    options += ["--round-timeout", 60, "--reconnect-timeout", 0.3]
    aggregator = processes.start("tests.chaos.actor", *options, env=env)
    wait_for_port(processes.address)
    learners = [
        processes.start(
            "tests.chaos.actor", "learner", repo, "--aggregator", processes.address,
            "--data", digits / f"part-{index}", "--learner-id", name, env=env,
        )
        for index, name in enumerate(HONEST)
    ]  # fmt: skip
    return aggregator, learners


def check(processes, digits, repo, tmp_path, *, streams, rounds, attack="rogue", most=50e6):
    print(f"FUZZ_SEED={SEED}")
    pieces = attack == "rogue"  # else the largest message would be smaller, too
    calm = type(processes)(tmp_path / "calm")
    try:
        aggregator, _ = federation(calm, repo, digits, rounds, tmp_path / "none", 0, pieces)
        expected = calm.result(aggregator)
    finally:
        calm.stop()
    for mark in tmp_path.glob("begun-*"):
        mark.unlink()
    gate = tmp_path / "gate"
    gate.touch()
    aggregator, learners = federation(
        processes, repo, digits, rounds, gate, streams // rounds, pieces
    )
    wait_until(lambda: len(list(tmp_path.glob("begun-*"))) == len(HONEST))
    arguments = [processes.address, streams, SEED, gate, ",".join(HONEST)]
    rogues = processes.start(f"tests.fuzz.{attack}", *arguments)
    assert rogues.wait(1500) == 0, processes.stderr(rogues)[-3000:]
    gate.unlink()
    out, _ = aggregator.communicate(timeout=120)
    said = processes.stderr(aggregator)
    assert aggregator.returncode == 0, said[-3000:]
    result = json.loads(out)
    for learner in learners:
        processes.finish(learner)
    assert result["model_sha256"] == expected["model_sha256"]
    for record in result["rounds"]:
        assert record["learners"] == HONEST
        assert record["loss"] is not None
    more = result["peak_memory_bytes"] - expected["peak_memory_bytes"]
    assert more < most, f"{more / 1e6:.0f} MB more"
    assert "Traceback" not in said
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f]", said)
    for line in said.splitlines():
        assert len(line) < 300 or unstamped(line).startswith("error:"), line
    forged = re.findall(r"^(?:[\d-]{10} [\d:]{8} )?round \d+/\d+ ", said, re.MULTILINE)
    assert len(forged) == rounds
    print(f"{streams} streams, {len(said.splitlines())} lines, {more / 1e6:.0f} MB more")


@pytest.mark.slow
@pytest.mark.timeout(110)
def test_rogues_change_nothing(processes, gated_repo, digits, tmp_path):
    check(processes, digits, gated_repo, tmp_path, streams=64, rounds=2)


@pytest.mark.slow
@pytest.mark.timeout(110)
def test_streams_that_flood_end_at_once_and_cost_a_message_each(
    processes, gated_repo, digits, tmp_path
):
    """gRPC may hold a message of 2 MiB of each, what follows in the window, and Python a copy."""
    most = flood.AT_ONCE * 6 * 2**20
    sizes = {"streams": 160, "rounds": 2, "attack": "flood", "most": most}
    check(processes, digits, gated_repo, tmp_path, **sizes)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_ten_thousand_rogue_streams_change_nothing(processes, gated_repo, digits, tmp_path):
    check(processes, digits, gated_repo, tmp_path, streams=10_000, rounds=20)
