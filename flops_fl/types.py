"""The values that travel through the runtime: tensors, tasks, answers, records.

All are frozen. NumPy arrays inside them are shared, so nobody writes to them afterwards.
A `Layout` describes a model's parameters; the initial model fixes it for the whole run.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from flops_fl.dtypes import OPAQUE, dtype_name
from flops_fl.text import paragraph, sentence

Array: TypeAlias = NDArray[Any]
Parameters: TypeAlias = Sequence[Array]
Scalar: TypeAlias = bool | int | float | str | bytes
Stage: TypeAlias = Literal["fit", "evaluate"]

MAX_EXAMPLES = 1 << 40  # far more than any dataset has, and far below 2^53, exact in float64


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """The dtype of a tensor, as named by `dtype_name`, and its shape."""

    dtype: str
    shape: tuple[int, ...]

    @property
    def nbytes(self) -> int:
        return _itemsize(self.dtype) * math.prod(self.shape)

    def __str__(self) -> str:
        if self.dtype == OPAQUE:
            return f"{self.nbytes} bytes"
        return f"{np.dtype(self.dtype).name}{list(self.shape)}"


@cache
def _itemsize(dtype: str) -> int:
    return np.dtype(dtype).itemsize


@dataclass(frozen=True)
class Layout:
    """The dtypes and shapes of a model's tensors, in order.

    All items of an opaque model are bytes, of dtype `OPAQUE`. The number of items is fixed, but
    their sizes are not.
    """

    tensors: tuple[TensorSpec, ...]

    @classmethod
    def of(cls, parameters: Iterable[Array]) -> Layout:
        return cls(tuple(TensorSpec(dtype_name(p.dtype), p.shape) for p in parameters))

    @cached_property
    def nbytes(self) -> int:
        return sum(spec.nbytes for spec in self.tensors)

    @cached_property
    def opaque(self) -> bool:
        """Whether the model is opaque: it has no mean."""
        return any(spec.dtype == OPAQUE for spec in self.tensors)

    @property
    def fingerprint(self) -> str:
        """SHA-256 (hex) of dtypes and shapes; models with equal ones can be averaged.

        The sizes of opaque items may change, so they are not part of it.
        """
        shapes = ("[*]" if s.dtype == OPAQUE else list(s.shape) for s in self.tensors)
        text = ";".join(f"{s.dtype}{shape}" for s, shape in zip(self.tensors, shapes, strict=True))
        return hashlib.sha256(text.encode()).hexdigest()

    def difference(self, other: Layout) -> str:
        """Say in words where `other` differs from this layout; empty if it does not."""
        if len(self.tensors) != len(other.tensors):
            return f"{len(other.tensors)} tensors, expected {len(self.tensors)}"
        for index, (ours, theirs) in enumerate(zip(self.tensors, other.tensors, strict=True)):
            if ours != theirs and not ours.dtype == theirs.dtype == OPAQUE:
                return f"tensor {index} is {theirs}, expected {ours}"
        return ""

    def empty(self) -> list[Array]:
        """Allocate arrays of this layout; their values are undefined."""
        return [np.empty(spec.shape, spec.dtype) for spec in self.tensors]


def parameters_sha256(parameters: Parameters) -> str:
    """SHA-256 (hex) of a model: each tensor's dtype string, shape, little-endian C-order bytes."""
    digest = hashlib.sha256()
    for array in parameters:
        digest.update(f"{dtype_name(array.dtype)}{list(array.shape)}".encode())
        little = array.astype(array.dtype.newbyteorder("<"), order="C", copy=False)
        digest.update(np.ascontiguousarray(little).reshape(-1).view(np.uint8).data)
    return digest.hexdigest()


@dataclass(frozen=True, kw_only=True, slots=True)
class Task:
    """What one learner is asked to do: fit or evaluate the global model of `version`.

    `version` counts the aggregations that made a model: the initial model is 0, the result of
    round r is r. Since runs are deterministic, `run_id` and `version` always name the same
    parameters.
    """

    stage: Stage
    run_id: str
    round: int
    version: int
    seed: int
    config: Mapping[str, Scalar] = field(default_factory=dict)
    timeout: float = 0.0
    """Seconds after which an answer is late, from when the task is sent; 0: not known."""

    @property
    def key(self) -> str:
        return f"{self.run_id}/{self.round}/{self.stage}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Deadline:
    """When a stage stops waiting for learners that have not answered. Times in seconds."""

    timeout: float
    quorum: int = 0
    grace: float | None = None
    """Wait after `quorum` learners have answered without failure; None: wait for `timeout`."""
    share: float | None = None  # the same, from the start, or until `quorum` have answered

    def reason(self, *, early: bool) -> str:
        """Why a learner's answer came too late."""
        if early:
            return f"no answer within {self.grace:g} s after {self.quorum} others' (--grace)"
        return f"no answer within {round(self.timeout, 2):g} s (--round-timeout)"


@dataclass(frozen=True, kw_only=True, slots=True)
class Update:
    """A learner's answer to a fit. `examples` is the number of training samples."""

    learner: str
    parameters: Parameters
    examples: int
    metrics: Mapping[str, Scalar] = field(default_factory=dict)
    data: str = ""  # hash of the rows that it was trained on; empty: not known


@dataclass(frozen=True, kw_only=True, slots=True)
class Evaluation:
    """A learner's evaluation of the global model on its own data."""

    learner: str
    loss: float
    examples: int
    metrics: Mapping[str, Scalar] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class LearnerFailure:
    """A learner that failed at its task. The round goes on without its contribution.

    Its texts are shown and stored, so they are cut to a few KB and have no control characters.
    """

    learner: str
    stage: str
    reason: str
    traceback: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "stage", sentence(self.stage, 64))
        object.__setattr__(self, "reason", sentence(self.reason))
        object.__setattr__(self, "traceback", paragraph(self.traceback))


def _printable(text: str, limit: int = 64) -> str:
    return "".join(char if char.isprintable() else "?" for char in text[:limit])


@dataclass(frozen=True, slots=True)
class Difference:
    """One point in which a learner's setup differs from the aggregator's."""

    what: str
    theirs: str
    ours: str

    def __str__(self) -> str:
        return f"{self.what} {self.theirs}, this aggregator has {self.ours}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Setup:
    """What an actor trains with. A field is empty if its value is unknown."""

    commit: str = ""
    versions: Mapping[str, str] = field(default_factory=dict)
    """Versions of Python and of packages, by name."""
    state: str = ""
    """Digest (hex) of the model's state outside its parameters; see `repo.hidden_state`."""

    def comparable(self, other: Setup) -> Setup:
        """The part that can be compared with `other`; short and printable, whoever sent it."""
        versions = {name: self.versions[name] for name in other.versions if name in self.versions}
        return Setup(
            commit=_printable(self.commit),
            versions={name: _printable(version) for name, version in versions.items()},
            state=_printable(self.state),
        )

    def differences(self, other: Setup) -> tuple[Difference, ...]:
        """Where a learner's setup differs from this one. Unknown values are no difference."""
        ours, theirs = self._named(), other.comparable(self)._named()
        return tuple(
            Difference(what, theirs[what], ours[what])
            for what in ours
            if theirs.get(what, ours[what]) != ours[what]
        )

    def _named(self) -> dict[str, str]:
        commit, _, changes = self.commit.partition("+")
        named = {
            "commit": commit[:10] + (f"+{changes}" if changes else ""),
            **self.versions,
            "state outside the parameters (frozen weights, buffers)": self.state[:10],
        }
        return {what: value for what, value in named.items() if value}


Answer: TypeAlias = Update | Evaluation | LearnerFailure


@dataclass(frozen=True, kw_only=True, slots=True)
class RoundRecord:
    """The history of one round, as in result.json. Times in seconds."""

    round: int
    seconds: float
    fit_seconds: float
    evaluate_seconds: float
    loss: float | None
    accuracy: float | None
    examples: int
    bytes_down: int
    bytes_up: int
    learners: tuple[str, ...]
    failures: tuple[LearnerFailure, ...] = ()
    not_evaluated: str = ""
    """Why there is no loss; empty if there is one."""
    fit_metrics: Mapping[str, Scalar] = field(default_factory=dict)
    """The updates' metrics as the strategy combined them. `metrics` is of the evaluations."""
    metrics: Mapping[str, Scalar] = field(default_factory=dict)
    server_loss: float | None = None
    """Loss from the strategy's own evaluation of the model, if it has one."""
    server_metrics: Mapping[str, Scalar] = field(default_factory=dict)
    fit_examples: int = 0
    """Samples that the updates of this round were trained on."""
    clusters: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    """Of learners that are cluster aggregators: how many `learners` and `failures` they had."""
    new_data: Mapping[str, Mapping[str, str | int]] = field(default_factory=dict)
    """``data`` and ``examples`` of updates that were trained on other rows than the last ones."""
    ended: float = 0.0
    """Unix time of the round's end; 0: not known."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Best:
    """The best global model so far: highest accuracy, then lowest loss, then earliest.

    Only models that were evaluated count.
    """

    round: int
    loss: float | None
    accuracy: float | None

    @staticmethod
    def after(best: Best | None, record: RoundRecord) -> Best | None:
        """The best model after another round is complete."""
        if record.loss is None:  # not evaluated
            return best
        if best and _rank(record.accuracy, record.loss) <= _rank(best.accuracy, best.loss):
            return best
        return Best(round=record.round, loss=record.loss, accuracy=record.accuracy)


def _rank(accuracy: float | None, loss: float | None) -> tuple[float, float]:
    return (-math.inf if accuracy is None else accuracy, -math.inf if loss is None else -loss)
