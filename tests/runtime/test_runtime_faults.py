"""Faults of the host and of user code, in real processes."""

import json
import os
import queue
import resource
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import suppress

import grpc
import pytest

from flops_fl.repo.contract import ManagedModel
from flops_fl.wire.codec import decode, encode
from flops_fl.wire.messages import Chunk, Hello, Order, Result
from tests.conftest import NUMPY, ROOT, wait_for_port, wait_until

ODD = """
import os, sys, threading, time
from model_manager_plain import ModelManager as Plain

class ModelManager(Plain):
    rounds = 0

    def fit_model(self):
        self.rounds += 1
        if self.rounds == 1:
            {oddity}
        return super().fit_model()
"""


@pytest.fixture
def odd_repo(tmp_path):
    def build(oddity):
        folder = tmp_path / "odd"
        folder.mkdir()
        for name, target in [("model_manager", "model_manager_plain"), ("data_manager",) * 2]:
            (folder / f"{target}.py").write_text((NUMPY / f"{name}.py").read_text())
        (folder / "model_manager.py").write_text(ODD.format(oddity=oddity))
        return folder

    return build


@pytest.mark.parametrize(
    ("oddity", "said"),
    [
        pytest.param("sys.exit(7)", "sys.exit(7)", marks=pytest.mark.slow),
        ("raise KeyboardInterrupt", "KeyboardInterrupt"),
        pytest.param("raise MemoryError", "MemoryError", marks=pytest.mark.slow),
    ],
)
def test_user_code_that_wants_to_end_the_process_costs_one_update(
    processes, digits, odd_repo, oddity, said
):
    aggregator = processes.aggregator(NUMPY, "--rounds", 2, "--min-available-clients", 2)
    good = processes.learner(NUMPY, digits / "part-0", "good")
    odd = processes.learner(odd_repo(oddity), digits / "part-1", "odd")
    result = processes.result(aggregator)
    assert [r["learners"] for r in result["rounds"]] == [["good"], ["good", "odd"]]
    (failure,) = result["rounds"][0]["failures"]
    assert (failure["learner"], failure["stage"]) == ("odd", "fit_model")
    assert said in failure["reason"]
    for learner in (good, odd):
        processes.finish(learner)


@pytest.mark.slow
@pytest.mark.parametrize(
    "oddity",
    [
        "sys.stdout.close(); sys.stderr.close(); os.close(1); os.close(2)",
        "threading.Thread(target=time.sleep, args=(1000,)).start()",
    ],
)
def test_user_code_may_close_its_streams_and_start_threads(processes, digits, odd_repo, oddity):
    aggregator = processes.aggregator(NUMPY, "--rounds", 2)
    learner = processes.learner(odd_repo(oddity), digits / "part-0", "odd")
    result = processes.result(aggregator)
    assert [r["learners"] for r in result["rounds"]] == [["odd"], ["odd"]]
    assert learner.wait(20) == 0


@pytest.mark.parametrize(
    "number", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.slow)]
)
def test_signals_end_both_within_seconds_and_the_run_can_go_on(
    processes, digits, slow_repo, tmp_path, number
):
    env = {"MARK": str(tmp_path / "x"), "FIT_SECONDS": "60"}
    aggregator = processes.aggregator(slow_repo, "--rounds", 2)
    learner = processes.learner(slow_repo, digits / "part-0", "only", env=env)
    wait_until(lambda: list(tmp_path.glob("x-fit-*")))
    asked = time.monotonic()
    learner.send_signal(number)
    aggregator.send_signal(number)
    assert learner.wait(10) == 130
    out, _ = aggregator.communicate(timeout=10)
    assert time.monotonic() - asked < 10
    assert aggregator.returncode == 130
    assert json.loads(out)["status"] == "interrupted"
    assert (tmp_path / "run" / "checkpoints" / "000000.json").exists()


@pytest.mark.slow
def test_a_full_disk_does_not_end_the_training(processes, digits, tmp_path):
    """Files of this process may have 2 KB: neither a model nor result.json fits.

    The learner stays for the process that goes on.
    """
    learner = processes.learner(NUMPY, digits / "part-0", "only")
    aggregator = subprocess.Popen(
        [
            sys.executable, "-m", "aggregator", NUMPY, "--listen", processes.address, "--rounds",
            "3", "--output", tmp_path / "run", "--no-tracking",
        ],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env=dict(os.environ),
    )  # fmt: skip
    resource.prlimit(aggregator.pid, resource.RLIMIT_FSIZE, (2000, 2000))
    _, err = aggregator.communicate(timeout=60)
    assert aggregator.returncode == 2, err
    assert "the checkpoint of round 2 cannot be written" in err
    assert "round 3/3" in err
    last = err.splitlines()[-1]
    assert "the results cannot be written" in last
    assert "File too large" in last
    assert last.endswith("--resume; rounds 1 to 3 are lost, and the learners wait for it")
    assert "Traceback" not in err
    assert not list((tmp_path / "run").rglob("*.part"))
    again = processes.aggregator(NUMPY, "--rounds", 3, "--resume")
    assert len(processes.result(again)["rounds"]) == 3
    processes.finish(learner)


@pytest.mark.slow
def test_results_that_could_not_be_written_need_no_learner(processes, digits, tmp_path):
    """A folder is where the model goes; the checkpoints found their room."""
    learner = processes.learner(NUMPY, digits / "part-0", "only")
    (tmp_path / "run" / "model-last.npz" / "in-the-way").mkdir(parents=True)
    command = (NUMPY, "--rounds", 2, "--resume")
    aggregator = processes.aggregator(*command)
    processes.finish(aggregator, 2)
    processes.finish(learner)  # it is not needed any more
    last = processes.stderr(aggregator).splitlines()[-1]
    assert last.endswith("--resume; no round is lost, and no learner is needed")
    (tmp_path / "run" / "model-last.npz").rename(tmp_path / "away")
    assert processes.result(processes.aggregator(*command))["status"] == "completed"


@pytest.mark.slow
def test_garbage_and_slow_loris_hold_nobody_up(processes, digits):
    """Strangers that send nonsense, say nothing, or speak a byte a second, beside a learner."""
    aggregator = processes.aggregator(NUMPY, "--rounds", 3)
    wait_for_port(processes.address)
    host, _, port = processes.address.rpartition(":")
    silent = [socket.create_connection((host, int(port))) for _ in range(20)]
    silent[0].sendall(b"GET / HTTP/1.1\r\n")
    silent[1].sendall(b"PRI * HTTP/2.0\r\n")

    def dribble():
        with suppress(OSError):
            for byte in b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n":
                silent[2].sendall(bytes([byte]))
                time.sleep(0.3)

    threading.Thread(target=dribble, daemon=True).start()
    frames = [b"", b"\xff" * 100, os.urandom(10_000), b"\x7a\xff\xff\xff\xff\x0f" + bytes(50)]
    with grpc.insecure_channel(processes.address) as channel:
        join = channel.stream_stream("/flops.Federation/Join")
        never = threading.Event()

        def stays_open():
            never.wait(60)
            yield b""

        waiting = join(stays_open())
        for frame in frames:
            answers = list(join(iter([frame])))
            assert len(answers) <= 1  # a word of why, at most
        started = time.monotonic()
        learner = processes.learner(NUMPY, digits / "part-0", "only")
        result = processes.result(aggregator)
        assert time.monotonic() - started < 30
        waiting.cancel()
        never.set()
    for connection in silent:
        connection.close()
    assert [r["learners"] for r in result["rounds"]] == [["only"]] * 3
    assert not any(r["failures"] for r in result["rounds"])
    processes.finish(learner)


@pytest.mark.slow
def test_a_learner_that_dribbles_or_sends_garbage_costs_only_itself(processes, digits):
    """Both are let in and get the task; one announces an update and sends a byte now and then,
    the other answers with nonsense."""
    options = ["--rounds", 1, "--min-available-clients", 3, "--round-timeout", 3]
    aggregator = processes.aggregator(NUMPY, *options)
    wait_for_port(processes.address)
    layout = ManagedModel(NUMPY).layout
    over = threading.Event()

    def rogue(name, answers):
        """Say Hello, wait for the task, and speak as `answers` has it."""
        task = queue.SimpleQueue()

        def speak():
            yield encode(Hello(learner=name, nonce=name, fingerprint=layout.fingerprint))
            yield from answers(task.get(timeout=60))

        with grpc.insecure_channel(processes.address) as channel, suppress(grpc.RpcError):
            for frame in channel.stream_stream("/flops.Federation/Join")(speak()):
                message = decode(frame)
                if isinstance(message, Order) and message.task.stage == "fit":
                    task.put(message.task)

    def dribble(task):
        yield encode(Result(key=task.key, examples=5, nbytes=layout.nbytes))
        for offset in range(1000):
            if over.wait(0.3):
                return
            yield encode(Chunk(version=task.round, offset=offset, data=memoryview(b"x")))

    def garbage(task):
        yield b"\x7a\x05hello"

    threads = [
        threading.Thread(target=rogue, args=("a-dribble", dribble)),
        threading.Thread(target=rogue, args=("b-garbage", garbage)),
    ]
    for thread in threads:
        thread.start()
    good = processes.learner(NUMPY, digits / "part-0", "c-good")
    try:
        (round,) = processes.result(aggregator)["rounds"]
    finally:
        over.set()
        for thread in threads:
            thread.join(20)
    assert round["learners"] == ["c-good"]
    reasons = {(failure["learner"], failure["reason"]) for failure in round["failures"]}
    assert ("a-dribble", "announced, and not delivered within another 3 s") in reasons
    (said,) = [reason for name, reason in reasons if name == "b-garbage"]
    assert said == (
        "it broke the protocol: not a frame of the flops protocol; no answer within 3 s "
        "(--round-timeout)"
    )
    assert 5.9 < round["fit_seconds"] < 12
    processes.finish(good)


@pytest.mark.slow
def test_ctrl_c_interrupts_a_whole_simulation(slow_repo, tmp_path):
    """A terminal's goes to each process of it."""
    command = [sys.executable, "-m", "flops_fl", "simulate", slow_repo, "--learners", "2"]
    command += ["--no-tracking", "--json", "--output", tmp_path / "run"]
    simulation = subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        start_new_session=True,
        env={**os.environ, "MARK": str(tmp_path / "x"), "FIT_SECONDS": "60"},
    )  # fmt: skip
    wait_until(lambda: len(list(tmp_path.glob("x-fit-*"))) == 2)
    os.killpg(simulation.pid, signal.SIGINT)
    out, err = simulation.communicate(timeout=20)
    assert simulation.returncode == 130
    assert json.loads(out)["status"] == "interrupted"
    assert "Traceback" not in err
