"""The page to watch a run: what it gets, what it may do, and that it delays nobody."""

import base64
import hashlib
import json
import math
import re
import socket
import threading
import time
from contextlib import closing
from dataclasses import replace

import pytest

from flops_fl.observers import page as module
from flops_fl.observers.page import PageObserver
from flops_fl.process import health as port
from flops_fl.process.health import Health
from flops_fl.types import Best, Setup
from tests.conftest import wait_until
from tests.observers.events import EVIL, RUN, Events, failure, get, listening, record


def learners(state):
    return {one["id"]: one for one in state["learners"]}


@pytest.fixture
def watched():
    observer = PageObserver(Health())
    observer.on_start(RUN, [])
    return observer


def test_a_stage_says_who_is_awaited_and_since_when(watched):
    watched.on_wait(["a", "b", "c"], 2)
    watched.on_stage(1, "fit", ["a", "b", "c"])
    watched.on_answer(1, "fit", "a", None)
    state = watched.state()
    assert (state["present"], state["required"], state["status"]) == (3, 2, "training")
    assert (state["awaited"], state["waiting"]) == (["b", "c"], 2)
    assert abs(state["stage"].pop("since") - time.time()) < 20
    assert state["stage"] == {"round": 1, "stage": "fit", "asked": 3}


def test_a_learner_has_its_last_answer_and_its_failures(watched):
    for name in ("a", "b"):
        watched.on_join(name, Setup())
    watched.on_answer(1, "fit", "a", None)
    watched.on_answer(1, "fit", "a", "refused: NaN")  # looked at, after it had come
    watched.on_answer(1, "fit", "b", "first line\nsecond \x1b[31m" + "x" * 999)
    watched.on_answer(1, "evaluate", "b", None)
    watched.on_return("b")
    state = watched.state()
    a, b = learners(state)["a"], learners(state)["b"]
    assert (a["round"], a["stage"], a["failure"], a["failures"]) == (1, "fit", "refused: NaN", 1)
    assert (b["stage"], b["failure"], b["failures"], b["returns"]) == ("evaluate", None, 1, 1)
    assert state["away"] == {}
    watched.on_answer(2, "fit", "b", "first line\nsecond \x1b[31m" + "x" * 999)
    why = learners(watched.state())["b"]["failure"]
    assert "\n" not in why
    assert "\x1b" not in why
    assert len(why) < 300


def test_who_is_put_aside_is_called_so_and_a_wait_has_its_begin(watched):
    watched.on_join("a", Setup())
    watched.on_wait(["a"], 1)
    assert watched.state()["lacking_since"] is None
    watched.on_cut_off("a", "", 0.0)
    watched.on_put_aside("a", "it failed in 2 rounds in a row")
    watched.on_wait([], 1)
    state = watched.state()
    began, away = state["lacking_since"], state["away"]["a"]
    assert (away["aside"], away["reason"]) == (True, "it failed in 2 rounds in a row")
    assert abs(began - time.time()) < 20
    watched.on_put_aside("a", "it failed in 2 rounds in a row")
    watched.on_wait([], 1)
    assert watched.state()["lacking_since"] == began
    assert watched.state()["away"]["a"]["since"] == away["since"]


def test_who_is_not_connected_is_said_until_it_is_back(watched):
    for name in ("a", "b"):
        watched.on_join(name, Setup())
        watched.on_cut_off(name, "its connection\nbroke", 60)
    watched.on_return("a")
    away = watched.state()["away"]
    assert list(away) == ["b"]
    assert away["b"]["reason"] == "its connection broke"
    assert abs(away["b"]["since"] - time.time()) < 20
    watched.on_join("b", Setup())
    assert watched.state()["away"] == {}


def test_a_round_brings_figures_bytes_clusters_and_why_some_failed(watched):
    nan = record(1, loss=math.nan, accuracy=None, server_metrics={"accuracy": 0.25, "name": "x"})
    failed = [failure("c", "broken 1", "Trace"), failure("d", "broken 2")]
    watched.on_round(replace(nan, clusters={"k": {"learners": 4, "failures": 1}}), None)
    watched.on_round(
        record(2, failures=failed, clusters={"k": {"learners": 5, "failures": 2}}),
        Best(round=2, loss=0.5, accuracy=0.5),
    )
    state = watched.state()
    first, second = state["rounds"]
    assert (first["loss"], first["accuracy"], first["server_accuracy"]) == ("nan", None, 0.25)
    assert (second["bytes_down"], second["bytes_up"], second["failures"]) == (1000, 2000, 2)
    assert [why["who"] for why in second["why"]] == ["2 learners (c, d)"]
    assert second["why"][0]["traceback"] == "Trace"
    assert state["clusters"] == {"k": {"learners": 5, "failures": 3}}
    assert state["best"] == 2


def test_a_run_that_goes_on_shows_what_was_before():
    observer = PageObserver(Health())
    observer.on_start(RUN, [record(1, failures=[failure("c")])])
    observer.on_failed_round(record(2, failures=[failure("c")]))
    observer.on_end("failed", "too few learners")
    state = observer.state()
    assert [one["round"] for one in state["rounds"]] == [1, 2]
    assert learners(state)["c"]["at"] is None
    assert (state["status"], state["error"]) == ("failed", "too few learners")


def test_one_who_watches_hears_of_what_is_new_alone(watched):
    for name in ("a", "b", "c"):
        watched.on_join(name, Setup())
    watched.on_round(record(1), None)
    stream = watched.events()
    next(stream)  # how soon to come back
    whole = json.loads(next(stream).removeprefix(b"data: "))
    assert (whole["whole"], len(whole["learners"]), len(whole["rounds"])) == (True, 3, 1)
    watched.on_answer(2, "fit", "b", None)
    watched.on_answer(2, "fit", "b", "no")
    watched.on_round(record(2), None)
    news = json.loads(next(stream).removeprefix(b"data: "))
    assert not news["whole"]
    assert [one["id"] for one in news["learners"]] == ["b"]
    assert [one["round"] for one in news["rounds"]] == [2]
    stream.close()


def test_of_very_many_learners_the_failing_ones_are_told(watched):
    for number in range(module.LISTED + 500):
        watched.on_answer(1, "fit", f"l{number}", "no" if number % 3 == 0 else None)
    state = watched.state()
    assert state["known"] == module.LISTED + 500
    assert len(state["learners"]) == module.LISTED
    assert sum(one["failure"] is not None for one in state["learners"]) == 500


def test_the_page_brings_all_it_needs_and_may_run_nothing_else():
    with listening() as (_, number):
        status, headers, text = get(number, "/")
        for path in ("/state.json", "/metrics", "/nothing"):
            others = get(number, path)[1]
            assert others["Content-Security-Policy"].startswith("default-src 'none'")
            assert others["X-Content-Type-Options"] == "nosniff"
            assert others["Access-Control-Allow-Origin"] is None
    assert status == 200
    policy = headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; ")
    assert "unsafe" not in policy
    for tag in ("script", "style"):
        (content,) = re.findall(f"<{tag}>(.*?)</{tag}>", text, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in policy
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Access-Control-Allow-Origin"] is None
    outside = set(re.findall(r"https?://[^\"']+", text))
    assert outside == {"http://www.w3.org/2000/svg"}  # a name; nothing is fetched from there
    assert not re.search(r"innerHTML|outerHTML|insertAdjacent|document\.write|\beval\b", text)
    assert not re.search(r"<[^>]* (on\w+|style)=", text)


def test_what_learners_say_leaves_as_json_alone(watched):
    watched.on_join(EVIL, Setup())
    watched.on_answer(1, "fit", EVIL, "</script>\r\n\r\ndata: {}")
    watched.on_round(record(1, failures=[failure(EVIL, "x", "a\nb\u2028c")]), None)
    stream = watched.events()
    next(stream)
    event = next(stream)
    assert event.endswith(b"\n\n")
    assert event.count(b"\n") == 2
    assert b"\r" not in event
    assert EVIL in learners(json.loads(event.removeprefix(b"data: ")))
    stream.close()


def test_streams_are_few_and_are_given_back(monkeypatch):
    monkeypatch.setattr(port, "STREAMS", 2)
    with listening() as (observer, number):
        open_ones = [Events(number), Events(number)]
        assert all(events.next()["whole"] for events in open_ones)
        assert get(number, "/events")[0] == 503
        assert get(number, "/healthz")[0] == 200
        open_ones.pop().close()

        def free():
            observer.on_return("a")  # a stream finds out when it has something to say
            with closing(Events(number)) as events:
                return events.answer.status == 200

        wait_until(free)
        open_ones.pop().close()


def test_one_who_does_not_read_is_dropped(monkeypatch):
    monkeypatch.setattr(port, "PATIENCE", 1.0)
    monkeypatch.setattr(port, "STREAMS", 1)
    monkeypatch.setattr(module, "PAUSE", 0.0)
    with listening() as (observer, number), closing(socket.socket()) as lazy:
        lazy.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        lazy.connect(("127.0.0.1", number))
        lazy.sendall(b"GET /events HTTP/1.0\r\n\r\n")
        assert lazy.recv(12) == b"HTTP/1.0 200"
        assert get(number, "/events")[0] == 503

        def dropped():
            for learner in range(1000):
                observer.on_answer(1, "fit", f"learner-{learner}", "why " * 50)
            with closing(Events(number)) as events:
                return events.answer.status == 200

        wait_until(dropped)


def test_a_reader_that_stands_still_holds_no_hook_up(watched):
    watched.on_join("a", Setup())
    stream = watched.events()
    for _ in range(2):  # an event is on its way, and is not taken
        next(stream)
        hooks = threading.Thread(target=watched.on_answer, args=(1, "fit", "a", None), daemon=True)
        hooks.start()
        hooks.join(30)
        assert not hooks.is_alive()
    stream.close()
