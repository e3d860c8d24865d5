"""Metrics that a strategy reports of a model survive a restart and are in the result."""

from dataclasses import replace

import numpy as np

from flops_fl.core.observer import RunInfo
from flops_fl.core.plan import State
from flops_fl.run.checkpoint import CheckpointWriter, load_checkpoint
from flops_fl.run.result import result_document
from flops_fl.types import RoundRecord

RUN = RunInfo(
    project_id="p", run_id="r", repo_source="s", repo_commit=None, strategy="mine:Class", seed=0,
    rounds=2,
)  # fmt: skip
START = RoundRecord(
    round=0, seconds=1.0, fit_seconds=0.0, evaluate_seconds=1.0, loss=None, accuracy=None,
    examples=0, bytes_down=0, bytes_up=0, learners=(), server_loss=float("inf"),
    server_metrics={"accuracy": 0.1, "where": "here"},
)  # fmt: skip
FIRST = replace(
    START, round=1, loss=2.0, server_loss=0.5, fit_metrics={"steps": 3}, metrics={"f1": 0.25}
)


def test_a_run_taken_up_again_knows_what_its_strategy_said(tmp_path):
    (tmp_path / "checkpoints").mkdir()
    model = [np.zeros(3, np.float32)]
    state = State(parameters=model, round=1, history=(FIRST,), initial=START)
    CheckpointWriter(tmp_path, RUN).write(state)
    found = load_checkpoint(tmp_path).state
    assert (found.initial, found.history) == (START, (FIRST,))


def test_the_result_has_it(tmp_path):
    state = State(parameters=[], round=1, history=(FIRST,), initial=START)
    document = result_document(RUN, state, status="running")
    metrics = {"accuracy": 0.1, "where": "here"}
    assert document["initial"] == {"loss": None, "metrics": metrics}  # JSON knows no infinity
    (first,) = document["rounds"]
    assert first["server"] == {"loss": 0.5, "metrics": metrics}
    assert (first["fit_metrics"], first["metrics"]) == ({"steps": 3}, {"f1": 0.25})
    plain = replace(FIRST, server_loss=None, server_metrics={})
    document = result_document(
        RUN, replace(state, history=(plain,), initial=None), status="running"
    )
    assert document["initial"] is document["rounds"][0]["server"] is None
