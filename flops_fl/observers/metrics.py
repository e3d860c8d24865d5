"""Metrics of a federation for Prometheus."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence

from prometheus_client import Counter, Gauge
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from flops_fl.core.observer import Observer, RunInfo
from flops_fl.process.health import Health
from flops_fl.types import Best, RoundRecord, Setup, Stage


class MetricsObserver(Observer):
    """Updates the metrics of an aggregator."""

    def __init__(self, health: Health) -> None:
        registry = health.registry

        def gauge(name: str, text: str, *labels: str) -> Gauge:
            return Gauge(f"flops_{name}", text, labels, registry=registry)

        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(f"flops_{name}", text, labels, registry=registry)

        self._round = gauge("round", "Last complete round")
        self._rounds = gauge("rounds", "Rounds to train")
        self._present = gauge("learners_present", "Learners connected, or expected back")
        self._connected = gauge("learners_connected", "Learners connected")
        self._required = gauge("learners_required", "Learners that a round needs")
        self._seconds = gauge("round_seconds", "Seconds of the last round")
        self._fit_seconds = gauge("fit_seconds", "Seconds of the last round's fit")
        self._loss = gauge("loss", "Loss of the global model")
        self._accuracy = gauge("accuracy", "Accuracy of the global model")
        for unknown in (self._loss, self._accuracy):
            unknown.set(float("nan"))  # 0 would be a figure, of a cluster or before the first round
        self._sent = counter("sent_bytes", "Bytes sent to learners")
        self._received = counter("received_bytes", "Bytes received from learners")
        self._answers = counter("answers", "Learners' answers", "stage", "outcome")
        self._failures = counter("learner_failures", "Failures by learner", "learner")
        self._reconnects = counter("reconnects", "Learners back after a lost connection")
        self._below = gauge("cluster_learners", "Learners that a cluster speaks for", "cluster")
        self._below_failed = counter(
            "cluster_failures", "Failures of a cluster's learners", "cluster"
        )
        self._joined: set[str] = set()
        self._open: set[str] = set()
        self._began = 0.0
        self._awaited = gauge("learners_awaited", "Learners asked that have not answered", "stage")
        self._since = gauge("waiting_since_seconds", "Unix time at which the current wait began")
        registry.register(_Awaited(self))

    def on_start(self, run: RunInfo, history: Sequence[RoundRecord]) -> None:
        self._rounds.set(run.rounds)
        self._since.set(time.time())
        if history:
            self._show(history[-1])

    def on_wait(self, present: Sequence[str], minimum: int) -> None:
        self._present.set(len(present))
        self._required.set(minimum)

    def on_join(self, learner: str, setup: Setup) -> None:
        self._joined.add(learner)
        self._connected.set(len(self._joined))

    def on_cut_off(self, learner: str, reason: str, seconds: float) -> None:
        self._joined.discard(learner)
        self._connected.set(len(self._joined))

    def on_return(self, learner: str) -> None:
        self._reconnects.inc()

    def on_stage(self, round: int, stage: Stage, learners: Sequence[str]) -> None:
        self._open, self._began = set(learners), time.time()
        self._awaited.labels(stage).set(len(learners))
        self._since.set(self._began)

    def awaited(self) -> tuple[list[str], float]:
        """Learners that have yet to answer, and the Unix time of the stage's start. Thread-safe."""
        return sorted(self._open.copy()), self._began

    def on_answer(self, round: int, stage: Stage, learner: str, failure: str | None) -> None:
        if learner in self._open:
            self._open.discard(learner)
            self._answers.labels(stage, "failed" if failure else "good").inc()
        else:  # the answer had arrived and was refused at its check
            self._answers.labels(stage, "refused").inc()
        self._awaited.labels(stage).set(len(self._open))
        if failure:
            self._failures.labels(learner).inc()

    def on_round(self, record: RoundRecord, best: Best | None) -> None:
        self._sent.inc(record.bytes_down)
        self._received.inc(record.bytes_up)
        for cluster, counts in record.clusters.items():
            self._below.labels(cluster).set(counts["learners"])
            self._below_failed.labels(cluster).inc(counts["failures"])
        self._show(record)

    def _show(self, record: RoundRecord) -> None:
        self._round.set(record.round)
        self._seconds.set(record.seconds)
        self._fit_seconds.set(record.fit_seconds)
        if record.loss is not None:
            self._loss.set(record.loss)
        if record.accuracy is not None:
            self._accuracy.set(record.accuracy)


class _Awaited(Collector):
    """Who is awaited, by name. Computed when Prometheus scrapes, so it costs a round nothing."""

    def __init__(self, observer: MetricsObserver) -> None:
        self._observer = observer

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """One sample for each learner that has not answered."""
        text = "Unix time at which the wait for this learner began"
        family = GaugeMetricFamily("flops_awaited_since_seconds", text, labels=["learner"])
        names, began = self._observer.awaited()
        for name in names:
            family.add_metric([name], began)
        yield family
