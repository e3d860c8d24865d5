"""A page to watch a run by, on the port of ``--metrics``: one file, nothing from elsewhere.

``/`` is the page, ``/events`` tells it what happens (server-sent events), ``/state.json`` is the
same for programs. Names, reasons and tracebacks come from other machines: they leave as JSON, and
the page shows them as text only. Its Content-Security-Policy lets nothing else run.
"""

from __future__ import annotations

import base64
import hashlib
import json
import math
import re
import threading
import time
from collections import Counter, OrderedDict
from collections.abc import Iterator, Sequence
from functools import cache
from importlib.resources import files
from itertools import islice, takewhile
from typing import Any, TypeAlias

from flops_fl.core.failures import KINDS, alike
from flops_fl.core.observer import Observer, RunInfo
from flops_fl.process.health import NOTHING, Answer, Health
from flops_fl.text import sentence
from flops_fl.types import Best, RoundRecord, Scalar, Setup, Stage

LISTED = 1000  # learners told of at once, the failing ones first; all are counted
EXPLAINED = 50  # newest rounds of which the failures are told
PAUSE = 0.25  # seconds between events of a stream; what happens meanwhile is one event
SILENCE = 15.0  # seconds after which a stream says that it lives, or learns that nobody listens


_Answer: TypeAlias = tuple[int, str, float | None, str | None]
"""A learner's last: its round, stage, Unix time, and why it failed. The time is None if it came
before this process began. A plain tuple, since thousands are made in a round."""

_NONE: _Answer = (0, "", None, None)


class PageObserver(Observer):
    """Keeps what the page shows. Hooks only take note; the requests' threads make JSON of it."""

    def __init__(self, health: Health) -> None:
        self._changed = threading.Condition()
        self._version = 1
        self._run: dict[str, Any] = {}
        self._status, self._error = "starting", ""
        self._present = self._required = 0
        self._lacking: float | None = None
        """Since when too few learners are present."""
        self._stage: dict[str, Any] = {}
        self._awaited: set[str] = set()
        self._records: list[RoundRecord] = []
        self._best: int | None = None
        self._clusters: dict[str, dict[str, int]] = {}
        self._learners: OrderedDict[str, tuple[int, _Answer]] = OrderedDict()
        """By the version that told it, so those that are new to a reader are the last ones."""
        self._failures: Counter[str] = Counter()
        self._returns: Counter[str] = Counter()
        self._away: dict[str, dict[str, Any]] = {}
        health.pages |= {
            "/": page,
            "/state.json": lambda: Answer(kind="application/json", body=_json(self.state())),
            "/events": lambda: Answer(kind="text/event-stream", pieces=self.events),
        }

    def on_start(self, run: RunInfo, history: Sequence[RoundRecord]) -> None:
        with self._changed:
            self._status = "training"
            self._run = {
                "project": run.project_id, "id": run.run_id, "source": run.repo_source,
                "commit": run.repo_commit, "strategy": run.strategy, "seed": run.seed,
                "rounds": run.rounds,
            }  # fmt: skip
            for record in history:
                self._take(record)
                for failure in record.failures:
                    self._failures[failure.learner] += 1
                    answer = (record.round, failure.stage, None, failure.reason)
                    self._note(failure.learner, answer)
            self._tell()

    def on_wait(self, present: Sequence[str], minimum: int) -> None:
        with self._changed:
            self._present, self._required = len(present), minimum
            lacking = len(present) < minimum
            self._lacking = (self._lacking or time.time()) if lacking else None
            self._tell()

    def on_join(self, learner: str, setup: Setup) -> None:
        with self._changed:
            self._away.pop(learner, None)
            self._note(learner, self._learners.get(learner, (0, _NONE))[1])

    def on_cut_off(self, learner: str, reason: str, seconds: float) -> None:
        with self._changed:
            self._away[learner] = {"since": time.time(), "reason": sentence(reason)}
            self._tell()

    def on_put_aside(self, learner: str, reason: str) -> None:
        with self._changed:
            away = self._away.setdefault(learner, {"since": time.time()})
            away |= {"aside": True, "reason": sentence(reason)}
            self._tell()

    def on_return(self, learner: str) -> None:
        with self._changed:
            self._away.pop(learner, None)
            self._returns[learner] += 1
            self._note(learner, self._learners.get(learner, (0, _NONE))[1])

    def on_stage(self, round: int, stage: Stage, learners: Sequence[str]) -> None:
        with self._changed:
            self._awaited = set(learners)
            self._stage = {
                "round": round, "stage": stage, "asked": len(learners), "since": time.time(),
            }  # fmt: skip
            self._tell()

    def on_answer(self, round: int, stage: Stage, learner: str, failure: str | None) -> None:
        if failure is not None:
            failure = sentence(failure)
        with self._changed:
            self._awaited.discard(learner)
            if failure is not None:
                self._failures[learner] += 1
            self._note(learner, (round, stage, time.time(), failure))

    def on_initial(self, record: RoundRecord) -> None:
        with self._changed:
            self._take(record)

    def on_round(self, record: RoundRecord, best: Best | None) -> None:
        with self._changed:
            self._best = best.round if best else None
            self._take(record)

    def on_failed_round(self, record: RoundRecord) -> None:
        with self._changed:
            self._take(record)

    def on_end(self, status: str, error: str | None) -> None:
        with self._changed:
            self._status, self._error = status, sentence(error or "", 2000)
            self._awaited, self._stage = set(), {}
            self._tell()

    def state(self, seen: int = 0, rounds: int = 0) -> dict[str, Any]:
        """What is new for one who has seen a version and that many rounds; without them, all.

        Thread-safe. The time that it holds up a hook grows with what is new alone.
        """
        with self._changed:
            version, status, error = self._version, self._status, self._error
            told = takewhile(lambda of: of[1][0] > seen, reversed(self._learners.items()))
            fresh = list(told)
            known = len(self._learners)
            records, best = self._records[rounds:], self._best
            stage, waiting = dict(self._stage), len(self._awaited)
            awaited = list(islice(self._awaited, LISTED))
            present, required, lacking = self._present, self._required, self._lacking
            clusters = {name: dict(counts) for name, counts in self._clusters.items()}
            away = dict(islice(self._away.items(), LISTED))  # those away for longest
        learners = [self._row(name, answer) for name, (_, answer) in fresh]
        learners.sort(key=lambda row: (row["failure"] is None, -row["failures"]))
        return {
            "version": version,
            "whole": seen == 0,
            "now": time.time(),
            "run": self._run,
            "status": status,
            "error": error,
            "required": required,
            "present": present,
            "lacking_since": lacking,
            "away": away,
            "stage": stage,
            "waiting": waiting,
            "awaited": sorted(awaited),
            "known": known,
            "learners": learners[:LISTED],
            "best": best,
            "clusters": clusters,
            "rounds": [
                _round(record, explained=index >= len(records) - EXPLAINED)
                for index, record in enumerate(records)
            ],
        }  # fmt: skip

    def events(self) -> Iterator[bytes]:
        """Server-sent events without an end: the whole state, then what is new in it."""
        seen = rounds = 0
        yield b"retry: 2000\n\n"
        while True:
            with self._changed:
                fresh = self._changed.wait_for(lambda: self._version > seen, SILENCE)  # noqa: B023
            if not fresh:
                yield b": nothing new\n\n"
                continue
            state = self.state(seen, rounds)
            seen, rounds = state["version"], rounds + len(state["rounds"])
            yield b"data: " + _json(state) + b"\n\n"
            time.sleep(PAUSE)

    def _tell(self) -> None:
        self._version += 1
        self._changed.notify_all()

    def _note(self, learner: str, answer: _Answer) -> None:
        self._tell()
        self._learners[learner] = self._version, answer
        self._learners.move_to_end(learner)

    def _row(self, name: str, answer: _Answer) -> dict[str, Any]:
        number, stage, at, failure = answer
        return {
            "id": name, "round": number, "stage": stage, "at": at, "failure": failure,
            "failures": self._failures[name], "returns": self._returns[name],
        }  # fmt: skip

    def _take(self, record: RoundRecord) -> None:
        self._tell()
        self._records.append(record)
        for name, counts in record.clusters.items():
            before = self._clusters.get(name, {}).get("failures", 0)
            self._clusters[name] = {
                "learners": counts["learners"], "failures": before + counts["failures"],
            }  # fmt: skip


@cache
def page() -> Answer:
    """The page, with a policy that knows its only script and style by their hashes."""
    text = files(__package__).joinpath("page.html").read_text("utf-8")
    policy = (
        f"{NOTHING}; script-src {_hash_of('script', text)}; style-src {_hash_of('style', text)}; "
        "connect-src 'self'; require-trusted-types-for 'script'"
    )
    return Answer(kind="text/html; charset=utf-8", policy=policy, body=text.encode())


def _hash_of(tag: str, text: str) -> str:
    (content,) = re.findall(f"<{tag}>(.*?)</{tag}>", text, re.DOTALL)
    return f"'sha256-{base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()}'"


def _json(state: dict[str, Any]) -> bytes:
    """In ASCII and one line, as an event needs it."""
    return json.dumps(state, allow_nan=False).encode()


def _round(record: RoundRecord, *, explained: bool) -> dict[str, Any]:
    kinds = alike(record.failures)[:KINDS] if explained else []
    return {
        "round": record.round,
        "seconds": record.seconds,
        "loss": _figure(record.loss),
        "accuracy": _figure(record.accuracy),
        "server_loss": _figure(record.server_loss),
        "server_accuracy": _figure(record.server_metrics.get("accuracy")),
        "learners": len(record.learners),
        "failures": len(record.failures),
        "bytes_down": record.bytes_down,
        "bytes_up": record.bytes_up,
        "not_evaluated": record.not_evaluated,
        "why": [
            {"who": f.who, "stage": f.stage, "reason": f.reason, "traceback": f.traceback}
            for f in kinds
        ],
    }


def _figure(value: Scalar | None) -> float | str | None:
    """A number, or the name of one that JSON has no word for."""
    if value is None or isinstance(value, str | bytes):
        return None
    return float(value) if math.isfinite(value) else str(value)
