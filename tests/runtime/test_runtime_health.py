"""Real processes answer orchestrators: gRPC's health service, readiness, metrics."""

import json
import re
import socket
import time
import urllib.error
import urllib.request
from contextlib import ExitStack

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from prometheus_client.parser import text_string_to_metric_families

from tests.conftest import NUMPY, wait_for_port, wait_until
from tests.observers.events import Events


def free_address():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{probe.getsockname()[1]}"


def get(address, path):
    try:
        with urllib.request.urlopen(f"http://{address}{path}", timeout=5) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def metrics(address):
    status, text = get(address, "/metrics")
    assert status == 200
    families = text_string_to_metric_families(text)
    return {(s.name, *sorted(s.labels.values())): s.value for f in families for s in f.samples}


@pytest.mark.slow
def test_readiness_and_metrics_follow_a_run(processes, digits, slow_repo, tmp_path):
    theirs = free_address()
    env = {"MARK": str(tmp_path / "x"), "FIT_SECONDS": "0.7"}
    learner = processes.learner(slow_repo, digits / "part-0", "edge", "--metrics", theirs, env=env)
    wait_for_port(theirs)
    status, why = get(theirs, "/readyz")
    assert (status, why.strip() != "") == (503, True)
    aggregator = processes.aggregator(slow_repo, "--rounds", 3, "--metrics", "127.0.0.1:0")
    ours = announced(processes, aggregator)
    page = Events(int(ours.rpartition(":")[2]))
    states = [page.next()]
    wait_until(lambda: get_or_none(theirs, "/readyz") == 200)
    assert get(ours, "/readyz") == (200, "ready\n")
    assert get(ours, "/healthz") == (200, "alive\n")
    assert get(ours, "/model")[0] == 404

    with grpc.insecure_channel(processes.address) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        for service in ("", "flops.Federation"):
            answer = stub.Check(health_pb2.HealthCheckRequest(service=service), timeout=5)
            assert answer.status == health_pb2.HealthCheckResponse.SERVING
        with pytest.raises(grpc.RpcError, match="NOT_FOUND"):
            stub.Check(health_pb2.HealthCheckRequest(service="other"), timeout=5)

    wait_until(lambda: metrics(ours)["flops_round",] >= 1)
    seen = metrics(ours)
    assert seen["flops_rounds",] == 3
    assert seen["flops_learners_present",] == 1
    assert seen["flops_answers_total", "fit", "good"] >= 1
    assert seen["flops_accuracy",] > 0.3
    assert seen["flops_sent_bytes_total",] > 2600
    assert abs(seen["flops_waiting_since_seconds",] - time.time()) < 20
    assert seen["process_resident_memory_bytes",] > 1e7
    own = metrics(theirs)
    assert own["flops_joined",] == 1
    assert own["flops_tasks_total", "fit", "good"] >= 1
    assert own["flops_task_seconds", "fit"] > 0.7

    while not states[-1]["rounds"]:
        states.append(page.next())
    page.close()
    assert any(state["awaited"] == ["edge"] for state in states)
    first = json.loads(get(ours, "/state.json")[1])["rounds"][0]
    assert first["accuracy"] > 0.3
    assert first["bytes_up"] > 2600
    assert 'new EventSource("events")' in get(ours, "/")[1]
    processes.result(aggregator)
    processes.finish(learner)


def announced(processes, aggregator):
    """The address of the port that the aggregator has chosen."""

    def said():
        return re.search(r"http://(\S+) answers to /metrics, ", processes.stderr(aggregator))

    wait_until(said)
    return said()[1]


def get_or_none(address, path):
    try:
        return get(address, path)[0]
    except OSError:
        return None


@pytest.mark.slow
def test_a_port_in_use_is_named(processes, run_cli, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        code, _, err = run_cli(
            "aggregator", NUMPY, "--metrics", address, "--output", tmp_path / "run",
            "--no-tracking", "--listen", processes.address,
        )  # fmt: skip
    assert code == 2
    assert f"--metrics {address}: " in err
    assert "Choose another port" in err


@pytest.mark.slow
def test_requests_that_never_end_leave_files_for_learners_and_an_answer_for_others(
    processes, digits
):
    """200 of them, of a process that may open 160 files. Each sends its first line, and waits."""
    address = free_address()
    host, _, port = address.rpartition(":")
    few_files = ["bash", "-c", 'ulimit -n 160; exec "$@"', "-"]
    options = ["--listen", processes.address, "--output", processes.folder / "run", "--json"]
    options += ["--no-tracking", "--rounds", 1, "--min-clients", 2, "--metrics", address]
    aggregator = processes.start("aggregator", NUMPY, *options, wrapper=few_files)
    wait_for_port(processes.address)
    with ExitStack() as stack:
        for _ in range(200):
            silent = stack.enter_context(socket.create_connection((host, int(port)), 10))
            silent.sendall(b"GET /metrics HTTP/1.1\r\n")
        assert get(address, "/healthz") == (200, "alive\n")
        for index in range(2):
            processes.learner(NUMPY, digits / f"part-{index}", f"l{index}")
        assert processes.result(aggregator)["rounds"][0]["learners"] == ["l0", "l1"]
