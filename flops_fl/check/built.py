"""The trial without data: what the aggregator does, and what a learner does before it trains."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TypeAlias

import numpy as np

from flops_fl.check.report import Order, Report
from flops_fl.core.refusals import check_update
from flops_fl.core.seeding import seed_build
from flops_fl.dtypes import kind_of
from flops_fl.errors import BadUpdate, DataError, RepositoryError
from flops_fl.repo.contract import ManagedModel
from flops_fl.repo.namesakes import Namesakes
from flops_fl.repo.raised import own_traceback
from flops_fl.repo.workfolder import WorkFolders
from flops_fl.types import Array, Layout, Parameters, Update, parameters_sha256

Build: TypeAlias = Callable[[str, int], ManagedModel]
"""Builds a new ModelManager, with a name for its working folder, under a seed."""

GET, SET = "get_model_parameters", "set_model_parameters"
MAGIC = {b"\x80\x04": "a pickle", b"\x80\x05": "a pickle", b"PK": "an archive", b"{": "JSON"}
"""How bytes begin that are no numbers."""


def try_built(order: Order, report: Report) -> None:
    """Build the model, give and take its parameters; with data, fit it once.

    Raises:
        FlopsError: the repository's code fails, or there are no such data.
    """
    folders = WorkFolders(Path(order.folder), Path(order.kept, "files"))
    build = partial(build_model, order, report, folders)
    model = build("first", 0)
    start, layout, first = model.parameters(), model.layout, _digests(model)
    report.fact(
        tensors=len(layout.tensors), numbers=sum(array.size for array in start),
        model_bytes=layout.nbytes, opaque=layout.opaque,
    )  # fmt: skip
    report.step("get_model")
    model.statistics()
    model.input_example()
    _look_at(start, layout, report)
    report.step(SET)
    _round_trip(model, start, report)
    _build_again(model, first, build, report)
    other = build("other", 1)
    if difference := layout.difference(other.layout):
        report.remark(
            "layout-by-seed", "__init__",
            f"ModelManager() gives a model of another layout under another seed: {difference}",
            "fix the shapes by constants: learners and the aggregator must agree on them",
        )  # fmt: skip
    if order.data is not None:
        from flops_fl.check.fits import first_fit

        fitted = first_fit(order, report, folders)
        report.fact(fitted=fitted.digest)


def build_model(
    order: Order, report: Report, folders: WorkFolders, name: str, seed: int
) -> ManagedModel:
    """A model without data, of modules that are imported anew.

    Raises:
        RepositoryError: the repository's code fails.
    """
    folder, stages = Path(order.folder), iter(("import", "__init__"))

    def before_build() -> None:
        report.step(next(stages, "__init__"))
        seed_build(seed)

    try:
        return ManagedModel(folder, before_build=before_build, work=folders.of(name))
    except DataError as error:
        told = own_traceback(error, Namesakes(folder).owns)
        raise RepositoryError(str(error), stage="__init__", traceback=told) from error


def _digests(model: ManagedModel) -> tuple[str, str]:
    """Digests of the parameters, and of the state outside them."""
    return parameters_sha256(model.parameters()), model.beside()


def _look_at(start: Parameters, layout: Layout, report: Report) -> None:
    """Look for values that are no model: NaN, and bytes that only look like numbers."""
    try:
        check_update(Update(learner="", parameters=list(start), examples=1), layout)
    except BadUpdate as error:
        report.remark(
            "initial-values", GET, f"the initial model is unusable: {error}",
            "give finite initial values, such as zeros",
        )  # fmt: skip
    for index, array in enumerate(start):
        if (kind := _no_numbers(array)) == "a pickle" and layout.opaque:
            report.remark(
                "pickle", GET,
                f"item {index} is a pickle: no strategy can make one model of several, and to read "
                "it runs code of whoever has sent it",
                "return the model's own format, such as XGBoost's save_raw('json')",
                severity="warning",
            )  # fmt: skip
        elif kind and not layout.opaque:
            report.remark(
                "no-numbers", GET,
                f"array {index} is {kind} as numbers from 0 to 255: its mean is no model",
                "return it as bytes, and choose a strategy that knows them, such as FedXgbBagging "
                "(docs/ml-repositories.md, Opaque parameters)",
            )  # fmt: skip


def _no_numbers(array: Array) -> str:
    """What an array of bytes holds; empty for numbers, as far as is known."""
    if array.ndim != 1 or array.dtype.itemsize != 1 or array.dtype.kind == "b":
        return ""
    head = array[:2].tobytes()
    return next((kind for magic, kind in MAGIC.items() if head.startswith(magic)), "")


def _round_trip(model: ManagedModel, start: Parameters, report: Report) -> None:
    """Set other values than the initial ones, and see whether they come back exactly."""
    if model.layout.opaque:
        model.load(start)
        model.parameters()
        return
    given = [_other(array, index) for index, array in enumerate(start)]
    model.load(given)
    got = model.parameters()
    wrong = [n for n, pair in enumerate(zip(given, got, strict=True)) if not _same(*pair)]
    if not wrong:
        return
    first, spec = wrong[0], model.layout.tensors[wrong[0]]
    if all(_same(got[n], start[n]) for n in wrong):
        what = f"{_which(wrong, start)} not changed by set_model_parameters"
        remedy = "set each array that get_model_parameters returns, in the same order, and return "
        remedy += "the present ones there"
    elif any(n != first and _same(given[n], got[first]) for n in range(len(given))):
        what = f"array {first} comes back with the values of another one"
        remedy = "keep one order in both methods; of arrays that share their memory, return one"
    elif np.allclose(_floats(given[first]), _floats(got[first]), rtol=1e-2, equal_nan=True):
        what = f"array {first} ({spec}) comes back rounded"
        remedy = "return the dtype in which the model keeps it: the federation keeps the dtypes of "
        remedy += "the first call"
    else:
        what = f"array {first} ({spec}) comes back with other values than were set"
        remedy = "let get_model_parameters return what set_model_parameters was given"
    report.remark("round-trip", SET, what, remedy)


def _which(wrong: list[int], start: Parameters) -> str:
    if len(wrong) == len(start):
        return "the parameters are"
    named = ", ".join(map(str, wrong[:5]))
    return f"array {named} is" if len(wrong) == 1 else f"arrays {named} are"


def _other(array: Array, index: int) -> Array:
    """Values of the same dtype that differ from the array's, and from those of other arrays."""
    if array.dtype.kind == "b":
        return np.logical_not(array)
    if kind_of(array.dtype) in "iu":
        return np.asarray(array + array.dtype.type(1 + index % 100), array.dtype)
    with np.errstate(all="ignore"):
        flat = np.linspace(0.1, 0.9, max(array.size, 1))[: array.size].reshape(array.shape)
        return np.asarray(array * array.dtype.type(1) + (flat + 1 / (3 + index)), array.dtype)


def _same(one: Array, other: Array) -> bool:
    return one.tobytes() == other.tobytes()


def _floats(array: Array) -> Array:
    return np.nan_to_num(np.abs(array).astype(np.float64))


def _build_again(model: ManagedModel, first: tuple[str, str], build: Build, report: Report) -> None:
    """Build the object again: in the same process, and from modules that are imported anew."""
    model.release()
    again = _digests(model)
    if _digests(build("second", 0)) != first:
        report.remark(
            "unseeded-build", "__init__",
            "two ModelManager() under one seed differ in their values: something draws from a "
            "generator that the runtime does not seed",
            "draw from random, numpy.random or the framework's global generator, or fix the seed",
            severity="warning",
        )  # fmt: skip
    elif again != first:
        report.remark(
            "shared-state", "__init__",
            "a second ModelManager() begins with what the first one was set to: they share arrays",
            "make the arrays in __init__, not in the class or the module",
        )  # fmt: skip
