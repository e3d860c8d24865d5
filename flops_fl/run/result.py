"""result.json: what a run was and what came of it."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from flops_fl import __version__
from flops_fl.core.observer import RunInfo
from flops_fl.process.files import atomic
from flops_fl.types import Best, RoundRecord


def result_document(
    run: RunInfo,
    history: Sequence[RoundRecord],
    best: Best | None,
    *,
    setups: dict[str, Any],
    model_sha256: str,
    peak_memory_bytes: int,
    mlflow: dict[str, str] | None,
    status: str,
    error: str | None,
) -> dict[str, Any]:
    """The content of result.json. Times in seconds, sizes in bytes; no NaN, but null."""
    document = {
        "project_id": run.project_id,
        "repo": {"source": run.repo_source, "commit": run.repo_commit},
        "flops_fl_version": __version__,
        "strategy": run.strategy,
        "seed": run.seed,
        "rounds": [_round(record) for record in history],
        "best": None
        if best is None
        else {"round": best.round, "loss": best.loss, "accuracy": best.accuracy},
        "model_sha256": model_sha256,
        "setups": setups,
        "peak_memory_bytes": peak_memory_bytes,
        "mlflow": mlflow,
        "status": status,
        "error": error,
    }
    finite: dict[str, Any] = _finite(document)
    return finite


def write_result(path: Path, document: dict[str, Any]) -> None:
    """Write it atomically."""
    with atomic(path) as file:
        file.write((json.dumps(document, indent=2) + "\n").encode())


def _round(record: RoundRecord) -> dict[str, Any]:
    return {
        "round": record.round,
        "seconds": record.seconds,
        "fit_seconds": record.fit_seconds,
        "evaluate_seconds": record.evaluate_seconds,
        "loss": record.loss,
        "accuracy": record.accuracy,
        "examples": record.examples,
        "bytes_down": record.bytes_down,
        "bytes_up": record.bytes_up,
        "learners": list(record.learners),
        "failures": [
            {"learner": f.learner, "stage": f.stage, "reason": f.reason} for f in record.failures
        ],
    }


def _finite(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value
