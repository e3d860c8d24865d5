"""A trial under MLflow's eyes: ``python -m flops_fl.images.inferring``, started by `run_trial`."""

from __future__ import annotations

import logging
import os
from pathlib import Path

from flops_fl.check.built import build_model
from flops_fl.check.fits import first_fit
from flops_fl.check.inside import work
from flops_fl.check.report import Order, Report
from flops_fl.errors import FlopsError
from flops_fl.repo.workfolder import WorkFolders


def infer(order: Order, report: Report) -> None:
    """Build the model, train and evaluate it once if there are data, and ask MLflow what it needs.

    Raises:
        FlopsError: the repository's code fails, or there are no such data.
    """
    folders = WorkFolders(Path(order.folder), Path(order.kept, "files"))
    if order.data is None:
        model = build_model(order, report, folders, "model", 0)
    else:
        model = first_fit(order, report, folders).client.model
    report.step("get_model")
    given = model.model()
    logging.disable(logging.ERROR)  # MLflow's advice on its own list
    # MLflow kills its own process after two minutes, which a busy machine may need for imports.
    os.environ.setdefault("MLFLOW_REQUIREMENTS_INFERENCE_TIMEOUT", str(int(order.limit)))
    os.environ["MLFLOW_TRACKING_URI"] = Path(order.kept, "mlruns").as_uri()
    from flops_fl.observers.flavors import inferred_requirements

    try:
        report.fact(requirements=inferred_requirements(given, Path(order.kept)))
    except FlopsError:
        raise
    except Exception as error:  # MLflow raises many kinds
        report.remark("mlflow", "get_model", f"MLflow: {type(error).__name__}: {error}", "")


if __name__ == "__main__":
    work(infer)
