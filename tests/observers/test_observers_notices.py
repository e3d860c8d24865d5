"""Others are told how a training goes: by a real broker, a real listener, a real web server."""

import json
import subprocess
import threading
import time
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from flops_fl.core.observer import RunInfo
from flops_fl.errors import FederationError
from flops_fl.net.target import Target
from flops_fl.observers import channels
from flops_fl.observers import notices as told
from flops_fl.observers.notices import Notices
from tests.conftest import NUMPY, wait_until
from tests.listeners import Broker, Listener, needs_mosquitto
from tests.trees import free_address

RUN = RunInfo(
    project_id="p-1", run_id="r", repo_source="", repo_commit=None, strategy="FedAvg", seed=0,
    rounds=3,
)  # fmt: skip
WINNER = {
    "rounds": [{}, {}, {}],
    "best": {"round": 2, "loss": 0.5, "accuracy": 0.0},
    "mlflow": {"experiment_id": "4", "run_id": "abc"},
}


def aggregator(*targets, ca=None):
    return Notices(
        [Target.parse(target) for target in targets], ca, actor="aggregator",
        project_id="p-1", details={"aggregator_type": "ROOT_AGGREGATOR"},
    )  # fmt: skip


class Hook(BaseHTTPRequestHandler):
    """A webhook that first is overloaded."""

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.heard.append((self.path, self.headers["Authorization"], json.loads(body)))
        self.send_response(self.server.answers.pop(0) if self.server.answers else 204)
        self.end_headers()

    def log_message(self, *arguments):
        pass


@pytest.fixture
def hook():
    server = HTTPServer(("127.0.0.1", 0), Hook)
    server.heard, server.answers = [], []
    server.url = f"http://127.0.0.1:{server.server_port}/told?by=us"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def test_an_observer_hears_each_event_as_a_text():
    listener = Listener()
    with aggregator(listener.url) as notices:
        notices.on_start(RUN, [])
        notices.succeeded(WINNER)
    listener.wait_for(2)
    assert listener.heard == [
        "aggregator of p-1 has started: 3 rounds of FedAvg",
        "aggregator of p-1 has completed 3 rounds; best: round 2, loss 0.5, accuracy 0.0",
    ]


def test_a_webhook_gets_documents_in_order_and_is_asked_again_while_it_is_overloaded(hook):
    hook.answers = [503, 429, 200]
    url = hook.url.replace("//", "//me:p%40ss@")
    with suppress(FederationError), aggregator(url) as notices:
        notices.on_start(RUN, [])
        raise FederationError("too few\nlearners")
    assert {(path, secret) for path, secret, _ in hook.heard} == {
        ("/told?by=us", "Basic bWU6cEBzcw==")
    }
    documents = [document for _, _, document in hook.heard]
    assert [document["event"] for document in documents] == ["started"] * 3 + ["failed"]
    assert documents[-1] == {
        "actor": "aggregator", "event": "failed", "project_id": "p-1",
        "text": "aggregator of p-1 has failed: too few learners",
        "aggregator_type": "ROOT_AGGREGATOR", "error_msg": "too few learners",
    }  # fmt: skip


def test_what_a_url_cannot_hold_is_encoded(hook):
    with aggregator(hook.url.replace("/told?by=us", "/hook/ä%20?100%&ü=[1]")) as notices:
        notices.succeeded(WINNER)
    assert [path for path, _, _ in hook.heard] == ["/hook/%C3%A4%20?100%25&%C3%BC=%5B1%5D"]
    assert Target.parse("mqtt://me@bücher.example").host == "xn--bcher-kva.example"


def test_a_webhook_that_refuses_is_not_asked_again(hook, caplog):
    hook.answers = [403]
    with aggregator(hook.url) as notices:
        notices.on_start(RUN, [])
        notices.interrupted()
    assert [document["event"] for _, _, document in hook.heard] == ["started", "interrupted"]
    shown = hook.url.replace("by=us", "...")  # the query may have a token
    assert f"{shown} is not told that it started: it answers 403 Forbidden" in caplog.text
    assert "by=us" not in caplog.text


def test_one_who_is_away_holds_up_nobody_and_the_end_is_bounded(monkeypatch, caplog):
    monkeypatch.setattr(told, "NOTICE_TIMEOUT", 1.0)
    listener = Listener()
    began = time.monotonic()
    with aggregator(f"tcp://{free_address()}", listener.url) as notices:
        notices.on_start(RUN, [])
        wait_until(lambda: listener.heard)
        notices.succeeded(WINNER)
    listener.wait_for(2)
    assert time.monotonic() - began < 60
    assert "cannot be told (Connection refused)" in caplog.text
    assert "was not told: started, success" in caplog.text


def test_one_who_comes_late_hears_all_in_order():
    address = free_address()
    with aggregator(f"tcp://{address}") as notices:
        notices.on_start(RUN, [])
        notices.succeeded(WINNER)
        listener = Listener(int(address.rpartition(":")[2]))
    listener.wait_for(2)
    assert [text.split()[3:5] for text in listener.heard] == [
        ["has", "started:"], ["has", "completed"],
    ]  # fmt: skip


def test_a_learner_that_cannot_start_tells_why(run_cli):
    listener = Listener()
    code, _, err = run_cli(
        "learner", "/nowhere", "--aggregator", "127.0.0.1:9", "--notify", listener.url,
        "--project-id", "p-1",
    )  # fmt: skip
    assert code == 2, err
    listener.wait_for(1)
    assert [text[:45] for text in listener.heard] == [
        "learner of p-1 has failed: no ML repository a"
    ]


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("ftp://HOST", "expected mqtt://HOST"),
        ("mqtt://", "expected mqtt://HOST"),
        ("tcp://h:99999", "expected mqtt://HOST"),
        ("http://a b/hook", "expected no white space: commas separate several"),
        ("mqtt://h/topic", "expected nothing after the port of mqtt://"),
    ],
)
def test_a_wrong_url_is_named_without_its_password(run_cli, url, said):
    url = url.replace("://", "://me:secret@")
    code, _, err = run_cli("flops_fl", "simulate", NUMPY, "--learners", 2, "--notify", url)
    assert code == 2
    assert said in err
    assert "secret" not in err


@pytest.mark.slow
@needs_mosquitto
def test_the_manager_gets_flops_messages_though_the_broker_was_away(tmp_path, processes):
    broker = Broker(tmp_path, "allow_anonymous true")
    try:
        broker.stop()
        run = processes.start(
            "flops_fl", "simulate", NUMPY, "--learners", 2, "--rounds", 2,
            "--output", tmp_path / "run", "--project-id", "p-1", "--json",
            "--notify", f"mqtt://{broker.address}",
        )  # fmt: skip
        wait_until(lambda: "cannot be told" in processes.stderr(run), 60)
        broker.start()
        document = processes.result(run)
        wait_until(lambda: len(broker.heard) == 2)
    finally:
        broker.close()
    kind = '{"aggregator_type": "CLASSIC_AGGREGATOR", '
    best, tracked = document["best"], document["mlflow"]
    assert broker.heard == [
        ("flops_manager/aggregator/started", kind + '"flops_project_id": "p-1"}'),
        (
            "flops_manager/aggregator/success",
            f'{kind}"accuracy": {best["accuracy"]}, "loss": {best["loss"]}, '
            f'"experiment_id": "{tracked["experiment_id"]}", "run_id": "{tracked["run_id"]}", '
            '"flops_project_id": "p-1"}',
        ),
    ]


# paho leaves the socket of a connection that a broker refuses to the garbage collector.
@pytest.mark.filterwarnings("ignore:Exception ignored in. <ssl.SSLSocket")
@pytest.mark.slow
@needs_mosquitto
def test_a_broker_may_want_tls_and_a_password(tmp_path, authority, monkeypatch, caplog):
    monkeypatch.setattr(told, "NOTICE_TIMEOUT", 1.0)
    monkeypatch.setattr(channels, "TIMEOUT", 1.0)
    passwords = tmp_path / "passwords"
    subprocess.run(["mosquitto_passwd", "-b", "-c", passwords, "me", "p@ss"], check=True)
    ca = tmp_path / "authority.pem"
    broker = Broker(
        tmp_path, "allow_anonymous false", f"password_file {passwords}", f"cafile {ca}",
        f"certfile {tmp_path / 'server.pem'}", f"keyfile {tmp_path / 'server.key'}", tls=ca,
    )  # fmt: skip
    try:
        port = broker.address.rpartition(":")[2]
        with aggregator(f"mqtts://me:p%40ss@localhost:{port}", ca=ca) as notices:
            notices.succeeded(WINNER)
            wait_until(lambda: broker.heard)
        with aggregator(f"mqtts://me:wrong@localhost:{port}", ca=ca) as notices:
            notices.on_start(RUN, [])
            wait_until(lambda: "cannot be told" in caplog.text)
        wait_until(lambda: "flops-notices" not in {each.name for each in threading.enumerate()})
    finally:
        broker.close()
    assert [topic for topic, _ in broker.heard] == ["flops_manager/aggregator/success"]
    assert json.loads(broker.heard[0][1])["accuracy"] == 0.0
    assert "Not authorized" in caplog.text
