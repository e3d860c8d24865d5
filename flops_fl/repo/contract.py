"""Calls the user's ModelManager and checks that it keeps the contract.

The contract (docs/ml-repositories.md): `ModelManager()` takes no arguments and touches no
data. `set_model_data()` runs on learners only. Parameters are a list of arrays whose dtypes and
shapes never change, or opaque (`repo.opaque`). `fit_model()` returns the number of training
samples; `evaluate_model()` returns loss, accuracy and the number of samples.
"""

from __future__ import annotations

import inspect
import logging
import math
import operator
import os
import traceback
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from flops_fl.errors import FlopsError, RepositoryError
from flops_fl.process.signals import asked_to_stop
from flops_fl.repo.arrays import as_array, in_layout, owned
from flops_fl.repo.hidden_state import hidden_state_digest
from flops_fl.repo.layers import seed_layers
from flops_fl.repo.loader import LoadData, Workspace, no_data
from flops_fl.repo.opaque import opaque_items
from flops_fl.repo.raised import data_fault, own_traceback, sentence_of, shown
from flops_fl.repo.statistics import statistics_of
from flops_fl.repo.workfolder import WorkFolder
from flops_fl.types import MAX_EXAMPLES, Array, Layout, Parameters, Scalar

log = logging.getLogger(__name__)

T = TypeVar("T")

METHODS = (
    "set_model_data",
    "get_model",
    "get_model_parameters",
    "set_model_parameters",
    "fit_model",
    "evaluate_model",
)
NO_CLASS = (
    "model_manager.py defines no class ModelManager: the runtime builds one with ModelManager()"
)


def lacking(methods: Sequence[str]) -> str:
    """The sentence about methods that a ModelManager lacks."""
    return (
        f"ModelManager has no method {', '.join(methods)}: the contract needs {', '.join(METHODS)}"
    )


class ManagedModel:
    """A user's ModelManager, with every call checked against the contract.

    Args:
        folder: The ML repository's files.
        load_data: Returns the learner's Dataset; an aggregator leaves it out.
        before_build: Called before the repository is imported and before each `ModelManager()`,
            to seed random generators.
        work: The folder in which user code runs; None: a new one.

    Raises:
        RepositoryError: the repository breaks the contract, or its code raised.
        DataError: its code cannot read the data.
    """

    def __init__(
        self,
        folder: Path,
        load_data: LoadData = no_data,
        before_build: Callable[[], None] = lambda: None,
        work: WorkFolder | None = None,
    ) -> None:
        self.workspace = Workspace(folder, load_data, work)
        self._before_build = before_build
        before_build()
        module = self._call("import", self.workspace.import_module, "model_manager")
        build = getattr(module, "ModelManager", None)
        if not callable(build):
            raise RepositoryError(NO_CLASS, stage="import")
        missing = [name for name in METHODS if not callable(getattr(build, name, None))]
        if missing:
            raise RepositoryError(lacking(missing), stage="import")
        self._build = build
        self._built: Any = None
        items = self._items()
        self._opaque = opaque_items(self.manager, items)
        self.layout = Layout.of(self._arrays(items))

    @property
    def manager(self) -> Any:
        """The user's ModelManager, built when it is first needed."""
        if self._built is None:
            self._before_build()  # again: the import has loaded the user's framework
            self._built = self._call("__init__", self._build)
        return self._built

    def release(self) -> None:
        """Drop the user's object to free its memory; the next call builds a new one."""
        self._built = None

    def close(self) -> None:
        """Drop the user's object and its working folder, but keep files that user code wrote."""
        self.release()
        self.workspace.close()

    # -- the contract, stage by stage ----------------------------------------------------

    def parameters(self) -> list[Array]:
        """The model's parameters, copied, in the dtypes and shapes of the initial model."""
        arrays = self._arrays(self._items())
        if len(arrays) != len(self.layout.tensors):
            raise self._broken(
                "get_model_parameters",
                f"returned {len(arrays)} arrays, {len(self.layout.tensors)} at the start",
            )
        if self._opaque:
            return arrays  # already copies; their sizes may change
        try:
            return in_layout(arrays, self.layout)
        except ValueError as error:
            raise self._broken("get_model_parameters", f"returned {error}") from error

    def present_layout(self) -> Layout:
        """The layout of the parameters as the ModelManager gives them now, dtypes as they are."""
        return Layout.of(self._arrays(self._items()))

    def load(self, parameters: Parameters) -> None:
        """Give the model its own, writable copy of the parameters."""
        own: Sequence[bytes | Array]
        try:
            own = (
                self._opaque.unpack(parameters) if self._opaque else owned(parameters, self.layout)
            )
        except ValueError as error:
            raise RepositoryError(
                f"the global model does not fit set_model_parameters ({error}): the strategy "
                "must produce parameters of the form that get_model_parameters returns",
                stage="set_model_parameters",
            ) from error
        self._call("set_model_parameters", self.manager.set_model_parameters, own)

    def attach_data(self) -> None:
        """Let the model fetch its training data."""
        self._call("set_model_data", self.manager.set_model_data)

    @property
    def takes_config(self) -> bool:
        """Whether `fit_model` has an argument ``config``, through which strategies pass values."""
        return "config" in inspect.signature(self.manager.fit_model).parameters

    def fit(self, config: Mapping[str, Scalar] | None = None) -> int:
        """Train on the local data; returns the number of training samples, at least 1."""
        function = self.manager.fit_model
        self._call("fit_model", seed_layers, self.manager)
        if self.takes_config:
            function = partial(function, config=dict(config or {}))
        return self._count("fit_model", self._call("fit_model", function))

    def statistics(self) -> frozenset[int]:
        """Indices of parameters that are statistics, not weights; see `repo.statistics`."""
        model = self._call("get_model", self.manager.get_model)
        return statistics_of(self.manager, model, len(self.layout.tensors))

    def beside(self) -> str:
        """Digest of the model's state outside its parameters; empty if it cannot be read."""
        try:
            model = self.model()
            return self._call("get_model", hidden_state_digest, model, self._arrays(self._items()))
        except RepositoryError as error:  # a run goes on without this comparison
            log.debug("the model's state cannot be compared: %s", error)
            return ""

    def evaluate(self) -> tuple[float, float, int]:
        """Loss, accuracy and number of samples, at least 1, on the local test data."""
        self._call("evaluate_model", seed_layers, self.manager)
        got = self._call("evaluate_model", self.manager.evaluate_model)
        if not isinstance(got, Sequence) or len(got) != 3:
            raise self._broken(
                "evaluate_model", f"returned {got!r:.80}, expected (loss, accuracy, samples)"
            )
        loss, accuracy = (self._number("evaluate_model", value) for value in got[:2])
        return loss, accuracy, self._count("evaluate_model", got[2])

    def model(self) -> Any:
        """The user's model object, as `get_model` returns it."""
        return self._call("get_model", self.manager.get_model)

    def input_example(self) -> Any:
        """What the user's model predicts from: the ModelManager's `input_example`, or None."""
        return self._call("input_example", getattr, self.manager, "input_example", None)

    # -- helpers -------------------------------------------------------------------------

    def _items(self) -> list[Any]:
        """The parameters as the ModelManager returns them."""
        stage = "get_model_parameters"
        got = self._call(stage, self.manager.get_model_parameters)
        if not isinstance(got, Sequence) or isinstance(got, str | bytes | bytearray) or not got:
            raise self._broken(
                stage, f"returned {_kind(got)}, expected a list of NumPy arrays, or of bytes"
            )
        return list(got)

    def _arrays(self, items: Sequence[Any]) -> list[Array]:
        """Items as arrays. These may share the ModelManager's memory; opaque ones are copies."""
        arrays = []
        with self.workspace.active():  # frameworks may import more when NumPy asks them
            for index, item in enumerate(items):
                try:
                    taken = self._opaque.pack(index, item) if self._opaque else as_array(item)
                except ValueError as error:
                    raise self._broken(
                        "get_model_parameters", f"returned for item {index} {error}"
                    ) from error
                arrays.append(taken)
        return arrays

    def _count(self, stage: str, value: Any) -> int:
        try:
            count = operator.index(value.item() if hasattr(value, "item") else value)
        except TypeError:
            count = -1
        if not 1 <= count <= MAX_EXAMPLES:
            raise self._broken(
                stage,
                f"returned {shown(value)}, expected the number of samples: an integer from 1 to "
                "2^40",
            )
        return count

    def _number(self, stage: str, value: Any) -> float:
        try:
            number = float(value)
        except (TypeError, ValueError, OverflowError):
            number = math.nan
        if not math.isfinite(number):
            raise self._broken(stage, f"returned {shown(value)}, expected a finite number")
        return number

    def _broken(self, stage: str, what: str) -> RepositoryError:
        return RepositoryError(f"ModelManager.{stage} {what}", stage=stage)

    def _call(self, stage: str, function: Callable[..., T], *arguments: Any) -> T:
        """Run user code; report whatever it raises with the user's own part of the traceback."""
        process = os.getpid()
        try:
            with self.workspace.active():
                return function(*arguments)
        except FlopsError:
            raise
        except BaseException as error:
            if os.getpid() != process:  # a child that user code forked must not go on as us
                traceback.print_exc()
                os._exit(1)
            if isinstance(error, KeyboardInterrupt) and asked_to_stop():
                raise
            if fault := data_fault(error):
                raise fault from error
            owns = self.workspace.owns
            raise RepositoryError(
                sentence_of(stage, error, self.workspace.folder, owns),
                stage=stage,
                traceback=own_traceback(error, owns),
            ) from error


def _kind(value: Any) -> str:
    empty = isinstance(value, Sequence) and not value
    return f"{'an empty' if empty else 'a'} {type(value).__name__}"
