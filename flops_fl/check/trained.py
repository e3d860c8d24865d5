"""The trial with data: a fit and an evaluation, measured, and whether they can be repeated."""

from __future__ import annotations

from pathlib import Path

from flops_fl.check.fits import Fitted, first_fit
from flops_fl.check.lasting import what_lasts
from flops_fl.check.report import Order, Report
from flops_fl.core.stages import refusal
from flops_fl.limits import OPAQUE_UPDATE
from flops_fl.process.memory import peak_memory
from flops_fl.repo.workfolder import WorkFolders
from flops_fl.types import Layout, parameters_sha256

FIT, EVALUATE, GET = "fit_model", "evaluate_model", "get_model_parameters"


def try_trained(order: Order, report: Report) -> None:
    """Fit and evaluate, look at what comes of it, and fit again.

    Raises:
        FlopsError: user code fails.
    """
    folders = WorkFolders(Path(order.folder), Path(order.kept, "files"))
    fitted = first_fit(order, report, folders)
    model = fitted.client.model
    update, evaluation = fitted.update, fitted.evaluation
    report.fact(
        seconds={stage: round(took, 3) for stage, took in fitted.seconds.items()},
        update_bytes=Layout.of(update.parameters).nbytes, samples=update.examples,
        test_samples=evaluation.examples, loss=evaluation.loss,
        accuracy=evaluation.metrics["accuracy"], peak_memory=peak_memory(),
    )  # fmt: skip
    _judge_update(fitted, report)
    _judge_evaluation(fitted, report)
    _judge_counts(fitted, report)
    if parameters_sha256(fitted.client.get_parameters({})) != parameters_sha256(update.parameters):
        report.remark(
            "evaluation-trains", EVALUATE, "it changes the parameters",
            "leave them as they are: in PyTorch call model.eval() and use torch.no_grad()",
            severity="warning",
        )  # fmt: skip
    if fitted.state != fitted.client.setup.state:
        report.remark(
            "state-outside", GET,
            "fit_model changes tensors of the model that get_model_parameters leaves out: each "
            "learner has its own, and they are never averaged",
            "return them too, such as BatchNorm's running mean (all of state_dict)",
            severity="warning",
        )  # fmt: skip
    report.step(FIT)
    _fit_again(order, fitted, report)
    model.close()


def _judge_update(fitted: Fitted, report: Report) -> None:
    model, update = fitted.client.model, fitted.update
    if parameters_sha256(update.parameters) == parameters_sha256(fitted.start):
        report.remark(
            "trains-nothing", FIT, "it changes no parameter",
            "train the model whose parameters get_model_parameters returns",
            severity="warning",
        )  # fmt: skip
    size = Layout.of(update.parameters).nbytes
    if model.layout.opaque and size > OPAQUE_UPDATE:
        report.remark(
            "large-update", GET,
            f"an update has {size} bytes, and an aggregator takes {OPAQUE_UPDATE} of a model "
            "without a mean",
            "send what is new alone, or give the aggregator a larger --opaque-update",
        )  # fmt: skip
    difference = model.layout.difference(fitted.present)
    if difference and not model.layout.opaque:
        report.remark(
            "dtype-changes", GET,
            f"after fit_model {difference}: the runtime converts it in each round",
            "begin with the dtype that the training gives, or convert in get_model_parameters",
            severity="warning",
        )  # fmt: skip


def _judge_evaluation(fitted: Fitted, report: Report) -> None:
    evaluation = fitted.evaluation
    accuracy = float(evaluation.metrics["accuracy"])
    if refused := refusal(evaluation):
        report.remark(
            "bad-evaluation", EVALUATE, f"an aggregator refuses it: {refused}",
            "return a finite loss, and the share of right answers",
        )  # fmt: skip
    elif not 0 <= accuracy <= 1:
        report.remark(
            "accuracy-range", EVALUATE,
            f"the accuracy is {accuracy:.4g}, expected a share from 0 to 1",
            "return a share, not percent; the best round is that with the highest",
            severity="warning",
        )  # fmt: skip


def _judge_counts(fitted: Fitted, report: Report) -> None:
    rows = fitted.client.data.rows if fitted.client.data else 0
    if not rows:  # the repository brings its own data
        return
    report.fact(rows=rows)
    counts = {FIT: fitted.update.examples, EVALUATE: fitted.evaluation.examples}
    for stage, count in counts.items():
        if count > rows:
            report.remark(
                "count", stage, f"it returns {count} samples, and the data have {rows} rows",
                "count each row once, whatever the number of epochs: it is the weight of this "
                "learner in the mean",
                severity="warning",
            )  # fmt: skip


def _fit_again(order: Order, fitted: Fitted, report: Report) -> None:
    """Compare with a fit in another process, and with a second one of the same object."""
    if fitted.digest != order.fitted:
        report.fact(repeatable=False)
        report.remark(
            "unseeded", FIT, "two learners under one seed, with the same data, train other models",
            "",  # the parent looks for the generator
            severity="warning",
        )  # fmt: skip
        return
    report.fact(repeatable=True)
    model = fitted.client.model
    arrays, _, _ = fitted.client.fit(fitted.start, fitted.config)
    if parameters_sha256(arrays) != parameters_sha256(fitted.update.parameters):
        attribute, what, remedy = what_lasts(model.manager, model.workspace.modules)
        report.remark(
            "lasting-state", FIT,
            "a second fit from the same parameters gives another model: " + what, remedy,
            severity="warning", attribute=attribute,
        )  # fmt: skip
