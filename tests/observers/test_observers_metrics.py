"""What Prometheus is told of learners and figures."""

import math
import time

from flops_fl.observers.metrics import MetricsObserver
from flops_fl.process.health import Health
from flops_fl.types import Setup
from tests.observers.test_observers_files import record


def test_metrics_name_who_is_awaited_and_count_returns():
    health = Health()
    metrics = MetricsObserver(health)
    metrics.on_stage(1, "fit", ["a", "b"])
    metrics.on_answer(1, "fit", "a", None)
    metrics.on_return("b")
    value = health.registry.get_sample_value
    assert abs(value("flops_awaited_since_seconds", {"learner": "b"}) - time.time()) < 5
    assert value("flops_awaited_since_seconds", {"learner": "a"}) is None
    assert value("flops_reconnects_total") == 1


def test_loss_and_accuracy_that_nobody_knows_are_no_figures():
    health = Health()
    metrics = MetricsObserver(health)
    value = health.registry.get_sample_value
    metrics.on_round(record(1, None, None), None)
    assert math.isnan(value("flops_loss"))
    assert math.isnan(value("flops_accuracy"))
    metrics.on_round(record(2), None)
    assert (value("flops_loss"), value("flops_accuracy")) == (1.0, 0.5)


def test_metrics_tell_who_is_connected_from_who_is_expected_back():
    health = Health()
    metrics = MetricsObserver(health)
    for name in ("a", "b", "b"):
        metrics.on_join(name, Setup())
    metrics.on_cut_off("a", "connection lost", 600.0)
    metrics.on_wait(["a", "b"], 2)
    value = health.registry.get_sample_value
    assert value("flops_learners_connected") == 1
    assert value("flops_learners_present") == 2


def test_a_refused_update_is_counted_as_such_and_once():
    health = Health()
    metrics = MetricsObserver(health)
    metrics.on_stage(1, "fit", ["a", "b"])
    metrics.on_answer(1, "fit", "a", None)
    metrics.on_answer(1, "fit", "a", "refused: NaN")  # looked at, after it had come
    value = health.registry.get_sample_value
    assert value("flops_learners_awaited", {"stage": "fit"}) == 1
    assert value("flops_answers_total", {"stage": "fit", "outcome": "good"}) == 1
    assert value("flops_answers_total", {"stage": "fit", "outcome": "refused"}) == 1
    assert value("flops_learner_failures_total", {"learner": "a"}) == 1
