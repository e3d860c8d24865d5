"""Stock Flower clients in one federation with native learners."""

import json
import subprocess
import sys

import pytest

from tests.conftest import EXAMPLES, ROOT, wait_for_port

NUMPY = EXAMPLES / "numpy_minimal"
PEERS = ROOT / "tests" / "peers"


def stock(processes, argument, *more, script="stock_client.py", python=sys.executable, at=None):
    log = (processes.folder / f"stock-{argument}.log").open("w")
    process = subprocess.Popen(
        [python, PEERS / script, at or processes.address, str(argument), *map(str, more)],
        stdout=subprocess.PIPE,
        stderr=log,
        text=True,
    )
    process.log = log
    processes.running.append(process)
    return process


def test_a_stock_client_trains_with_a_native_learner(processes, digits):
    aggregator = processes.aggregator(NUMPY, "--rounds", 2, "--min-clients", 2)
    wait_for_port(processes.address)
    processes.learner(NUMPY, digits / "part-0", "native")
    client = stock(processes, "works")
    result = processes.result(aggregator)
    assert client.wait(20) == 0
    for record in result["rounds"]:
        assert record["learners"] == ["flower-1", "native"]
        assert record["failures"] == []
        assert record["examples"] == 100 + 120


@pytest.mark.slow
def test_stock_clients_can_be_left_out(processes, digits):
    options = ["--rounds", 1, "--no-flower-clients"]
    aggregator = processes.aggregator(NUMPY, *options, "--min-available-clients", 1)
    wait_for_port(processes.address)
    for name in ("works", "works-too"):
        client = stock(processes, name)
        assert client.wait(60) != 0
        assert "takes no Flower clients (--no-flower-clients)" in processes.stderr(client)
    processes.learner(NUMPY, digits / "part-0", "native")
    (record,) = processes.result(aggregator)["rounds"]
    assert record["learners"] == ["native"]
    assert processes.stderr(aggregator).count("Flower clients at 127.0.0.1 are turned away") == 1


@pytest.mark.slow
def test_a_stock_client_killed_in_mid_round_costs_its_update_only(processes, digits):
    """At once: nobody can come back under a number. By default a named one has ten minutes."""
    options = ["--rounds", 1, "--min-available-clients", 3]
    aggregator = processes.aggregator(NUMPY, *options)
    wait_for_port(processes.address)
    processes.learner(NUMPY, digits / "part-0", "native")
    clients = [stock(processes, behaviour) for behaviour in ("dies", "works")]
    (record,) = processes.result(aggregator)["rounds"]
    assert [client.wait(20) for client in clients] == [9, 0]
    (failure,) = record["failures"]
    assert "connection lost" in failure["reason"]
    survivors = {"flower-1", "flower-2", "native"} - {failure["learner"]}
    assert set(record["learners"]) == survivors
    assert "native" in survivors


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_a_fit_of_three_minutes_costs_nobody_the_connection(processes, digits, slow_repo, tmp_path):
    """Beyond 80 s gRPC used to take the learners' keepalive pings for abuse (GOAWAY)."""
    aggregator = processes.aggregator(slow_repo, "--rounds", 1, "--min-clients", 2)
    wait_for_port(processes.address)
    env = {"MARK": str(tmp_path / "long"), "FIT_SECONDS": "200"}
    native = processes.learner(slow_repo, digits / "part-0", "native", env=env)
    client = stock(processes, "sleeps-200")
    out, _ = aggregator.communicate(timeout=350)
    (record,) = json.loads(out)["rounds"]
    assert record["learners"] == ["flower-1", "native"]
    assert record["failures"] == []
    assert record["fit_seconds"] >= 200
    assert client.wait(20) == 0
    processes.finish(native)
    assert processes.stderr(native).count(" connected to ") == 1
    assert "disconnected" not in processes.stderr(native)
    assert "too_many_pings" not in processes.stderr(native) + processes.stderr(client)
    assert len(list(tmp_path.glob("long-fit-*"))) == 1


@pytest.mark.slow
def test_bfloat16_is_float32_to_a_stock_client(processes, digits):
    repo = ROOT / "tests" / "repositories" / "bfloat16"
    aggregator = processes.aggregator(repo, "--rounds", 2, "--min-clients", 2)
    wait_for_port(processes.address)
    processes.learner(repo, digits / "part-0", "native")
    client = stock(processes, "works")
    result = processes.result(aggregator)
    assert client.wait(20) == 0
    assert [len(record["learners"]) for record in result["rounds"]] == [2, 2]


@pytest.mark.slow
def test_a_stock_client_joins_over_tls(processes, pki, tmp_path):
    files = ["--tls-cert", tmp_path / "server.pem", "--tls-key", tmp_path / "server.key"]
    aggregator = processes.aggregator(NUMPY, "--rounds", 1, *files)
    wait_for_port(processes.address)
    client = stock(processes, "works", tmp_path / "authority.pem")
    (record,) = processes.result(aggregator)["rounds"]
    assert client.wait(20) == 0
    assert record["learners"] == ["flower-1"]


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_oldest_flower_trains_with_the_newest_and_a_native_learner(processes, digits, tmp_path):
    """flwr 1.8.0, of April 2024, in an environment of its own."""
    old = tmp_path / "old" / "bin" / "python"
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "old"], check=True)
    install = [old, "-m", "pip", "install", "--quiet", "flwr==1.8.0", "numpy<2", "setuptools<80"]
    done = subprocess.run(install, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"flwr 1.8.0 cannot be installed here: {done.stderr[-200:]}")
    aggregator = processes.aggregator(NUMPY, "--rounds", 3, "--min-clients", 3)
    wait_for_port(processes.address)
    processes.learner(NUMPY, digits / "part-0", "native")
    clients = [stock(processes, "works"), stock(processes, "works-old", python=old)]
    for record in processes.result(aggregator)["rounds"]:
        assert record["learners"] == ["flower-1", "flower-2", "native"]
        assert record["failures"] == []
    assert [client.wait(20) for client in clients] == [0, 0]


@pytest.mark.slow
def test_our_learners_train_for_a_stock_server(processes, digits):
    server = stock(processes, 2, script="stock_server.py")
    learners = [
        processes.learner(NUMPY, digits / f"part-{n}", f"l{n}", "--protocol", "flower")
        for n in range(2)
    ]
    out, _ = server.communicate(timeout=80)
    assert server.returncode == 0
    assert float(out.split()[-1]) > 0.85
    for learner in learners:
        processes.finish(learner)


def for_stock_server(processes, digits, strategy, *, repo=NUMPY, code=0):
    """Two learners' run for a stock server: what it says, line by line, and they."""
    server = stock(processes, 2, strategy, script="stock_server.py")
    learners = [
        processes.learner(repo, digits / f"part-{n}", f"l{n}", "--protocol", "flower")
        for n in range(2)
    ]
    out, _ = server.communicate(timeout=100)
    assert server.returncode == 0, processes.stderr(server)[-2000:]
    for learner in learners:
        processes.finish(learner, code)
    return out.splitlines(), [processes.stderr(learner) for learner in learners]


@pytest.mark.parametrize("side", [pytest.param("Fixed", marks=pytest.mark.slow), "Adaptive"])
@pytest.mark.slow
def test_updates_are_clipped_for_a_servers_differential_privacy(processes, digits, side):
    said, _ = for_stock_server(processes, digits, side)
    norms = [line.split()[1:] for line in said if line.startswith("norm")]
    assert len(norms) == 6
    expected = [0.1] * 6
    if side == "Adaptive":  # the norm bit arrives: the server clips harder, as all were clipped
        expected = [0.1 * 0.9048374**round for round in (0, 0, 1, 1, 2, 2)]  # exp(-0.2 / 2)
    assert [float(norm) for norm, _ in norms] == pytest.approx(expected, rel=1e-4)
    assert {bit for _, bit in norms} == {"True"}


@pytest.mark.slow
def test_a_servers_fedprox_is_refused_where_fit_model_takes_no_config(processes, digits):
    _, said = for_stock_server(processes, digits, "FedProx", code=3)
    assert "let fit_model take an argument config" in said[0].splitlines()[-1]
    _, said = for_stock_server(processes, digits, "FedProx", repo=EXAMPLES / "numpy_fedprox")
    assert "warning" not in said[0]


@pytest.mark.slow
def test_a_server_asks_for_properties_and_sends_learners_away_for_a_second(processes, digits):
    said, learners = for_stock_server(processes, digits, "Curious")
    assert said.count("properties GET_PROPERTIES_NOT_IMPLEMENTED {}") == 6
    assert said.count("away RECONNECT") == 2
    assert sum(line.startswith("norm") for line in said) == 6
    for learner in learners:
        assert "disconnected (the server wants it back in 1 s)" in learner
        assert learner.count(" connected to the Flower server") == 2


@pytest.mark.slow
@pytest.mark.parametrize(
    ("strategy", "why"),
    [("Unreadable", "is not in NumPy's file format"), ("Misshapen", "tensors of shapes [(3,)]")],
)
def test_a_server_whose_model_cannot_be_used_is_told_why(processes, digits, strategy, why):
    said, learners = for_stock_server(processes, digits, strategy, code=4)
    failures = [line for line in said if line.startswith("failure")]
    assert len(failures) == 6
    assert why in failures[0]
    for learner in learners:
        assert why in learner.splitlines()[-1]
        assert "Traceback" not in learner


@pytest.mark.slow
@pytest.mark.parametrize(
    "strategy", ["FedAvgM", "FedAdam", "FedYogi", "FedAdagrad", "FedMedian", "Krum", "ServerFixed"]
)
def test_built_in_strategies_of_a_stock_server(processes, digits, strategy):
    said, learners = for_stock_server(processes, digits, strategy)
    assert float(said[-1].split()[1]) > 0.5
    assert "warning" not in "".join(learners)


@pytest.mark.slow
def test_a_server_of_trees_begins_without_a_model(processes, run_cli, tmp_path):
    pytest.importorskip("xgboost")
    options = ["--parts", 2, "--tag", "digits", "--out", tmp_path / "rows"]
    assert run_cli("flops_fl", "data", "partition", "breast-cancer", *options)[0] == 0
    repo = EXAMPLES / "cancer_xgboost"
    said, learners = for_stock_server(processes, tmp_path / "rows", "FedXgbBagging", repo=repo)
    assert float(said[-1].split()[1]) > 0.8
    assert "warning" not in "".join(learners)


@pytest.mark.slow
def test_an_opaque_model_goes_to_and_comes_from_stock_flower(processes, digits):
    """A stock client in our federation, then our learners for a stock server."""
    repo = ROOT / "tests" / "repositories" / "growing_numpy"
    strategy = ["--strategy", "collecting:Collecting"]
    aggregator = processes.aggregator(repo, "--rounds", 2, "--min-clients", 2, *strategy)
    wait_for_port(processes.address)
    processes.learner(repo, digits / "part-0", "native")
    client = stock(processes, "client", script="stock_opaque.py")
    result = processes.result(aggregator)
    assert client.wait(20) == 0
    for record in result["rounds"]:
        assert record["learners"] == ["flower-1", "native"]
        assert record["failures"] == []
    server = stock(processes, "server", script="stock_opaque.py")
    learners = [
        processes.learner(repo, digits / f"part-{n}", f"l{n}", "--protocol", "flower")
        for n in range(2)
    ]
    out, _ = server.communicate(timeout=80)
    assert (server.returncode, out) == (0, f"rows {2 * 2 * 1500}\n")
    for learner in learners:
        processes.finish(learner)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_flwr_run_gives_the_model_of_our_own_engine():
    """In Flower's simulation and on a SuperLink with two SuperNodes: what `make flower` runs."""
    pytest.importorskip("ray")
    command = [sys.executable, ROOT / "examples" / "flower.py"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert done.stdout.rstrip().endswith("the same model from all three, to the bit")


@pytest.mark.slow
def test_why_tensors_cannot_be_used_stands_in_the_record(processes, digits):
    aggregator = processes.aggregator(NUMPY, "--rounds", 1, "--min-available-clients", 4)
    wait_for_port(processes.address)
    processes.learner(NUMPY, digits / "part-0", "native")
    kinds = ("pickled", "texts", "complex")
    clients = [stock(processes, kind, script="stock_foreign.py") for kind in kinds]
    (record,) = processes.result(aggregator)["rounds"]
    assert [client.wait(20) for client in clients] == [0, 0, 0]  # none was sent away
    assert record["learners"] == ["native"]
    reasons = " / ".join(sorted(failure["reason"] for failure in record["failures"]))
    assert "tensor 0 is not in NumPy's file format" in reasons
    assert "tensor 0 is of dtype <U3, expected float32" in reasons
    assert "tensor 0 is of dtype complex128, expected float32" in reasons
    assert record["examples"] == 120 + 3 * 100
    assert "Traceback" not in processes.stderr(aggregator)
