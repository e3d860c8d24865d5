"""A run's results: its models, and result.json with its options, history and status."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from flops_fl import __version__
from flops_fl.core.observer import RunInfo
from flops_fl.core.plan import State
from flops_fl.core.rounds import Training
from flops_fl.process.files import atomic
from flops_fl.process.memory import peak_memory
from flops_fl.run.census import Census
from flops_fl.run.checkpoint import LAST, save_npz
from flops_fl.types import RoundRecord, parameters_sha256

RESULT, PICTURE, PARTITION = "result.json", "history.png", "partition.png"
RUNNING = "running"  # the status of a run at work, and of one that was killed


def leave(
    folder: Path,
    run: RunInfo,
    training: Training,
    census: Census,
    *,
    status: str,
    error: str | None,
) -> dict[str, Any]:
    """Write the last model and result.json of a run that has ended; return the result.

    Raises:
        OSError: the disk is full or cannot be written.
    """
    state = training.state
    save_npz(folder / LAST, state.parameters)
    document = result_document(
        run,
        state,
        status=status,
        error=error,
        failed_round=training.failed_round,
        model_sha256=parameters_sha256(state.parameters),
        setups=census.document(),
    )
    write_result(folder / RESULT, document)
    return document


def result_document(
    run: RunInfo,
    state: State,
    *,
    status: str,
    error: str | None = None,
    failed_round: RoundRecord | None = None,
    model_sha256: str | None = None,
    setups: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """The content of result.json. Times are in seconds, sizes in bytes; NaN and inf become null.

    Args:
        status: running, completed, failed or interrupted. The file of a run that was killed still
            says running.
        failed_round: The round whose failure ended the run; ``rounds`` in the document has the
            completed ones.
        model_sha256: The digest of the last model; None while the run goes on.
        setups: The setups of aggregator and learners, from `Census.document`.
    """
    best = state.best
    document = {
        "project_id": run.project_id,
        "run_id": run.run_id,
        "status": status,
        "error": error,
        "repo": {
            "source": run.repo_source,
            "commit": run.repo_commit,
            "folder": run.repo_folder,
        },
        "flops_fl_version": __version__,
        "strategy": run.strategy,
        "options": run.options,
        "seed": run.seed,
        "initial": _server(state.initial) if state.initial else None,
        "rounds": [_round(record) for record in state.history],
        "failed_round": None if failed_round is None else _round(failed_round),
        "best": None
        if best is None
        else {"round": best.round, "loss": best.loss, "accuracy": best.accuracy},
        "model_sha256": model_sha256,
        "setups": setups or {},
        "peak_memory_bytes": peak_memory(),
        "mlflow": None,
    }
    finite: dict[str, Any] = _finite(document)
    return finite


def write_result(path: Path, document: dict[str, Any]) -> None:
    """Write result.json atomically."""
    with atomic(path) as file:
        file.write((json.dumps(document, indent=2) + "\n").encode())


def read_result(folder: Path) -> dict[str, Any]:
    """Read result.json; an empty dict if it is missing or cannot be read."""
    try:
        document = json.loads((folder / RESULT).read_text())
    except (OSError, ValueError):
        return {}
    return document if isinstance(document, dict) else {}


def _round(record: RoundRecord) -> dict[str, Any]:
    return {
        "round": record.round,
        "seconds": record.seconds,
        "fit_seconds": record.fit_seconds,
        "evaluate_seconds": record.evaluate_seconds,
        "loss": record.loss,
        "accuracy": record.accuracy,
        "not_evaluated": record.not_evaluated or None,
        "examples": record.examples,
        "bytes_down": record.bytes_down,
        "bytes_up": record.bytes_up,
        "fit_metrics": dict(record.fit_metrics),
        "metrics": dict(record.metrics),
        "server": _server(record),
        "learners": list(record.learners),
        "fit_examples": record.fit_examples,
        "clusters": {name: dict(counts) for name, counts in record.clusters.items()},
        "new_data": {
            name: {"data": entry["data"] or None, "examples": entry["examples"]}
            for name, entry in record.new_data.items()
        },
        "failures": [
            {"learner": f.learner, "stage": f.stage, "reason": f.reason} for f in record.failures
        ],
    }


def _server(record: RoundRecord) -> dict[str, Any] | None:
    if record.server_loss is None and not record.server_metrics:
        return None
    return {"loss": record.server_loss, "metrics": dict(record.server_metrics)}


def _finite(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value
