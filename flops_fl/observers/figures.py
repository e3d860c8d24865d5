"""The figures of a round, and of the aggregator's machine, under their names in MLflow."""

from __future__ import annotations

import re
from contextlib import suppress

from flops_fl.types import Best, RoundRecord


def round_figures(record: RoundRecord) -> dict[str, float]:
    """What a round's own run says of it."""
    return _known({"accuracy": record.accuracy, "loss": record.loss, **_strategys(record)})


def training_figures(record: RoundRecord, best: Best | None) -> dict[str, float]:
    """What the training's run says of a round, ``seconds`` last. Times in seconds, sizes in bytes.

    Args:
        best: The best round so far, this one included.
    """
    if record.round == 0:  # the initial model: nobody was asked
        return round_figures(record) | {"seconds": record.seconds}
    clusters = record.clusters.values()
    of_clusters = {
        "clusters": len(clusters),
        "cluster_learners": sum(counts.get("learners", 0) for counts in clusters),
        "cluster_failures": sum(counts.get("failures", 0) for counts in clusters),
    }
    return round_figures(record) | _known(
        {
            "best/accuracy": best.accuracy if best else None,
            "best/loss": best.loss if best else None,
            "bytes_down": record.bytes_down,
            "bytes_up": record.bytes_up,
            "learners": len(record.learners),
            "failures": len(record.failures),
            "fit_examples": record.fit_examples,
            "evaluate_examples": record.examples,
            "fit_seconds": record.fit_seconds,
            "evaluate_seconds": record.evaluate_seconds,
            **(of_clusters if clusters else {}),
            "seconds": record.seconds,
        }
    )


def _strategys(record: RoundRecord) -> dict[str, float | None]:
    """What the strategy has to say, where that is numbers: ``server/loss``, ``fit/...``."""
    said = {"server": record.server_metrics, "fit": record.fit_metrics, "evaluate": record.metrics}
    numbers: dict[str, float | None] = {
        re.sub(r"[^\w./ -]", "_", f"{what}/{name}", flags=re.ASCII): float(value)
        for what, metrics in said.items()
        for name, value in metrics.items()
        if isinstance(value, int | float)
    }
    return {"server/loss": record.server_loss, **numbers}


def _known(figures: dict[str, float | None]) -> dict[str, float]:
    return {name: value for name, value in figures.items() if value is not None}


def system_load() -> dict[str, float]:
    """Load of the aggregator's machine and process, under the names of MLflow's own metrics.

    The processor's is since this thread's last call; the first call's is 0.
    """
    with suppress(ImportError):
        import psutil

        memory = psutil.virtual_memory()
        return {
            "system/cpu_utilization_percentage": psutil.cpu_percent(),
            "system/system_memory_usage_megabytes": memory.used / 1e6,
            "system/system_memory_usage_percentage": memory.percent,
            "system/process_memory_megabytes": psutil.Process().memory_info().rss / 1e6,
        }
    return {}
