"""What an aggregator reports of learners that leave and return."""

import signal

import pytest

from tests.conftest import NUMPY, wait_for_port, wait_until
from tests.peers.test_peers_flower import stock

BUSY = """
import ctypes, os, time
from model_manager_plain import ModelManager as Plain

class ModelManager(Plain):
    def fit_model(self):
        mark, seconds = os.environ["MARK"], int(os.environ["FIT_SECONDS"])
        if not os.path.exists(mark):
            open(mark, "w").close()
            ctypes.PyDLL(None).sleep(seconds)  # no other Python code runs meanwhile
        return super().fit_model()
"""


@pytest.mark.slow
def test_who_is_cut_off_and_back_is_said_and_told_from_who_is_slow(
    processes, digits, slow_repo, tmp_path
):
    slow = {"MARK": str(tmp_path / "slow"), "FIT_SECONDS": "600"}
    options = ["--rounds", 1, "--min-clients", 2, "--remind", 1, "--reconnect-timeout", 400]
    aggregator = processes.aggregator(slow_repo, *options)
    processes.learner(slow_repo, digits / "part-0", "a", env={"MARK": str(tmp_path / "a")})
    gone = processes.learner(slow_repo, digits / "part-1", "b", env=slow)

    def says(text):
        wait_until(lambda: text in processes.stderr(aggregator))

    says("fit: awaiting b, since")
    wait_until(lambda: list(tmp_path.glob("slow-fit-*")))
    gone.kill()
    says("b is cut off (connection lost), expected back for 400 s")
    says("fit: awaiting b (cut off), since")
    processes.learner(slow_repo, digits / "part-1", "b", env={"MARK": str(tmp_path / "b")})
    processes.result(aggregator)
    text = processes.stderr(aggregator)
    assert (text.count("cut off (con"), text.count("b is back")) == (1, 1)
    assert "a is" not in text


@pytest.mark.slow
def test_after_a_stock_client_has_died_the_wait_is_for_a_learner(processes, digits):
    options = ["--rounds", 2, "--min-available-clients", 2, "--remind", 1]
    aggregator = processes.aggregator(NUMPY, *options)
    wait_for_port(processes.address)
    processes.learner(NUMPY, digits / "part-0", "native")
    stock(processes, "dies")
    said = "1 of 2 learners present (native), since"
    wait_until(lambda: said in processes.stderr(aggregator).partition("round 1/2  ")[2])
    text = processes.stderr(aggregator)
    assert "flower-1 is cut off (connection lost), not expected back" in text
    assert "fit, since" not in text.partition("round 1/2  ")[2]


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_frozen_process_is_cut_off_and_one_that_holds_pythons_lock_is_not(
    processes, digits, slow_repo, tmp_path
):
    """The kernel of a frozen one goes on to acknowledge: gRPC's ping alone tells, in a minute."""
    (slow_repo / "model_manager.py").write_text(BUSY)
    busy, frozen = (
        {"MARK": str(tmp_path / name), "FIT_SECONDS": seconds}
        for name, seconds in (("busy", "80"), ("frozen", "1"))
    )
    aggregator = processes.aggregator(
        slow_repo, "--rounds", 1, "--min-clients", 2, "--keepalive", 5
    )
    more = ["--keepalive", 5]
    learners = [
        processes.learner(slow_repo, digits / "part-0", "busy", *more, env=busy),
        processes.learner(slow_repo, digits / "part-1", "frozen", *more, env=frozen),
    ]
    wait_until(lambda: (tmp_path / "busy").exists() and (tmp_path / "frozen").exists())
    learners[1].send_signal(signal.SIGSTOP)
    wait_until(lambda: "frozen is cut off" in processes.stderr(aggregator), 75)
    learners[1].send_signal(signal.SIGCONT)
    (record,) = processes.result(aggregator)["rounds"]
    assert record["learners"] == ["busy", "frozen"]
    assert "frozen is back" in processes.stderr(aggregator)
    assert "busy is" not in processes.stderr(aggregator)
    for learner in learners:
        processes.finish(learner)
