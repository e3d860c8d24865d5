"""Real MLflow: a training is one run, with curves over its rounds."""

import time
from dataclasses import replace

import pytest

from flops_fl.types import LearnerFailure
from tests.observers.mlflow_runs import (
    ENDED,
    RUN,
    curve,
    evaluated,
    finished,
    runs_at,
    training_at,
)

pytestmark = pytest.mark.filterwarnings("ignore")  # MLflow's own, many


@pytest.mark.slow
def test_a_training_is_one_run_with_curves_over_its_rounds(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "result.json").write_text("{}")
    failure = LearnerFailure(learner="b", stage="fit", reason="late")
    clusters = {"north": {"learners": 4, "failures": 1}, "south": {"learners": 3, "failures": 0}}
    rounds = [
        evaluated(1, 0.5),
        replace(evaluated(2, 0.75), failures=(failure,), clusters=clusters),
        replace(evaluated(3, 0.625), server_loss=0.25, fit_metrics={"steps": 3, "who": "a"}),
    ]
    before = time.time()
    observer = finished(tmp_path / "out", rounds, settings={"round_timeout": 60.0})
    run = training_at(observer)

    assert curve(observer, "accuracy") == {1: 0.5, 2: 0.75, 3: 0.625}
    assert curve(observer, "loss") == {1: 0.5, 2: 0.25, 3: 0.375}
    assert curve(observer, "best/accuracy") == {1: 0.5, 2: 0.75, 3: 0.75}
    assert curve(observer, "failures") == {1: 0, 2: 1, 3: 0}
    assert curve(observer, "evaluate/f1") == {1: 0.5, 2: 0.75, 3: 0.625}
    assert curve(observer, "cluster_learners") == {2: 7}
    assert curve(observer, "server/loss") == {3: 0.25}
    assert curve(observer, "fit/steps") == {3: 3}
    last = {"seconds": 1.0, "fit_seconds": 1.0, "evaluate_seconds": 0.5, "bytes_down": 1}
    last |= {"bytes_up": 2, "learners": 1, "evaluate_examples": 9}
    assert last.items() <= run.data.metrics.items()
    (point, *_) = observer.store.client.get_metric_history(run.info.run_id, "accuracy")
    assert point.timestamp == (ENDED + 1) * 1000
    assert any(name.startswith("system/") for name in run.data.metrics)

    settings = {"strategy": "FedAvg", "seed": "1", "rounds": "3", "round_timeout": "60.0"}
    settings |= {"repository": RUN.repo_source, "commit": "abc+2", "fraction_evaluate": "0.5"}
    assert settings.items() <= run.data.params.items()
    tags = {"mlflow.source.name": RUN.repo_source, "mlflow.source.git.commit": "abc"}
    assert tags.items() <= run.data.tags.items()
    assert run.data.tags["mlflow.user"]
    files = observer.store.client.list_artifacts(run.info.run_id)
    assert [file.path for file in files] == ["result.json"]

    assert run.info.status == "FINISHED"
    assert before * 1000 - 1 <= run.info.start_time <= run.info.end_time <= time.time() * 1000
    for child in runs_at(observer.tracking_uri):
        assert child.data.tags["mlflow.parentRunId"] == run.info.run_id
        number = int(child.data.tags["flops.round"])
        times = ((ENDED + number - 1) * 1000, (ENDED + number) * 1000)
        assert (child.info.start_time, child.info.end_time) == times


@pytest.mark.slow
def test_a_training_that_is_taken_up_again_goes_on_in_its_run(tmp_path):
    """An interrupted process, one that finishes, one that only delivers, one with more rounds."""
    one, two, three, four = (evaluated(number, number / 8) for number in (1, 2, 3, 4))
    first = training_at(finished(tmp_path, [one], status="interrupted"))
    assert first.info.status == "KILLED"

    second = training_at(finished(tmp_path, [three], [one, two]))
    assert second.info.run_id == first.info.run_id
    assert second.info.start_time == first.info.start_time
    assert second.info.status == "FINISHED"
    assert second.info.end_time > first.info.end_time

    third = finished(tmp_path, [], [one, two, three])
    assert training_at(third).info.end_time == second.info.end_time
    assert training_at(third).info.status == "FINISHED"

    more = finished(tmp_path, [four], [one, two, three], run=replace(RUN, rounds=4))
    assert curve(more, "accuracy") == {1: 0.125, 2: 0.25, 3: 0.375, 4: 0.5}
    assert curve(more, "best/accuracy") == {1: 0.125, 2: 0.25, 3: 0.375, 4: 0.5}
    run = training_at(more)
    assert run.data.params["rounds"] == "3"  # MLflow changes no parameter
    assert run.data.tags["flops.changed"] == "rounds=4"
    assert run.info.status == "FINISHED"


@pytest.mark.slow
def test_what_was_delivered_late_ended_when_it_ended(tmp_path):
    """The first process had no store: the whole run is delivered by one that trains nothing."""
    run = training_at(finished(tmp_path, [], [evaluated(n, 0.5) for n in (1, 2, 3)]))
    assert run.info.start_time == ENDED * 1000
    assert run.info.end_time == (ENDED + 3) * 1000
    assert not any(name.startswith("system/") for name in run.data.metrics)
