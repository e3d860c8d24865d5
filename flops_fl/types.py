"""The values that travel through the runtime: tensors, tasks, answers, records.

All are frozen; numpy arrays inside them are shared, never written to after they were
put in. `Layout` is the contract of a model's parameters, fixed by the initial model.
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

MAX_EXAMPLES = 1 << 40  # far beyond any data set, far below where float64 loses integers


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """dtype, as by `dtype_name`, and shape of a tensor."""

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
    """dtypes and shapes of a model's tensors, in order.

    An opaque model is one of bytes, `OPAQUE` all of it: their number is fixed, their sizes are not.
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
        """Whether this is a model that has no mean."""
        return any(spec.dtype == OPAQUE for spec in self.tensors)

    @property
    def fingerprint(self) -> str:
        """SHA-256 (hex) over dtypes and shapes: equal for models that can be averaged.

        Over dtypes alone where shapes are free.
        """
        shapes = ("[*]" if s.dtype == OPAQUE else list(s.shape) for s in self.tensors)
        text = ";".join(f"{s.dtype}{shape}" for s, shape in zip(self.tensors, shapes, strict=True))
        return hashlib.sha256(text.encode()).hexdigest()

    def difference(self, other: Layout) -> str:
        """Say in words where `other` departs from this layout; empty when it does not."""
        if len(self.tensors) != len(other.tensors):
            return f"{len(other.tensors)} tensors, expected {len(self.tensors)}"
        for index, (ours, theirs) in enumerate(zip(self.tensors, other.tensors, strict=True)):
            if ours != theirs and not ours.dtype == theirs.dtype == OPAQUE:
                return f"tensor {index} is {theirs}, expected {ours}"
        return ""

    def empty(self) -> list[Array]:
        """Allocate arrays of this layout, values undefined."""
        return [np.empty(spec.shape, spec.dtype) for spec in self.tensors]


def parameters_sha256(parameters: Parameters) -> str:
    """SHA-256 (hex) of a model: per tensor its dtype string, shape, little-endian C-order bytes."""
    digest = hashlib.sha256()
    for array in parameters:
        digest.update(f"{dtype_name(array.dtype)}{list(array.shape)}".encode())
        little = array.astype(array.dtype.newbyteorder("<"), order="C", copy=False)
        digest.update(np.ascontiguousarray(little).reshape(-1).view(np.uint8).data)
    return digest.hexdigest()


@dataclass(frozen=True, kw_only=True, slots=True)
class Task:
    """What one learner is asked to do: fit or evaluate the global model of `version`.

    `version` counts the aggregations a model has behind it: the initial model is 0, the
    result of round r is r. With `run_id` it names one set of parameters, for ever, since
    runs are deterministic.
    """

    stage: Stage
    run_id: str
    round: int
    version: int
    seed: int
    config: Mapping[str, Scalar] = field(default_factory=dict)

    @property
    def key(self) -> str:
        return f"{self.run_id}/{self.round}/{self.stage}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Deadline:
    """When a stage ends without those that have not answered. Times in seconds."""

    timeout: float
    quorum: int = 0
    grace: float | None = None
    """From the moment that `quorum` learners have answered well; None: no such end."""

    def reason(self, *, early: bool) -> str:
        """Why a learner's answer came too late."""
        if early:
            return f"no answer within {self.grace:g} s after {self.quorum} others' (--grace)"
        return f"no answer within {self.timeout:g} s (--round-timeout)"


@dataclass(frozen=True, kw_only=True, slots=True)
class Update:
    """What a learner sends back after a fit. `examples` is the number of training samples."""

    learner: str
    parameters: Parameters
    examples: int
    metrics: Mapping[str, Scalar] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class Evaluation:
    """A learner's judgement of the global model on its own data."""

    learner: str
    loss: float
    examples: int
    metrics: Mapping[str, Scalar] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class LearnerFailure:
    """One learner that did not do what it was asked; costs its contribution, not the round.

    What it says is cut to a few KB and has no control characters: it is shown and stored.
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
    """Where a learner's setup departs from the aggregator's."""

    what: str
    theirs: str
    ours: str

    def __str__(self) -> str:
        return f"{self.what} {self.theirs}, this aggregator has {self.ours}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Setup:
    """What an actor trains with, as far as it is known; empty where it is not."""

    commit: str = ""
    versions: Mapping[str, str] = field(default_factory=dict)
    """Of Python and of packages, by name."""
    state: str = ""
    """Digest (hex) of what the model holds beside its parameters; see `repo.beside`."""

    def comparable(self, other: Setup) -> Setup:
        """What of it can be compared with another's; short and printable whoever sent it."""
        versions = {name: self.versions[name] for name in other.versions if name in self.versions}
        return Setup(
            commit=_printable(self.commit),
            versions={name: _printable(version) for name, version in versions.items()},
            state=_printable(self.state),
        )

    def differences(self, other: Setup) -> tuple[Difference, ...]:
        """Where a learner's departs from this one; what either does not know is no difference."""
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
            "state beside the parameters (frozen weights, buffers)": self.state[:10],
        }
        return {what: value for what, value in named.items() if value}


Answer: TypeAlias = Update | Evaluation | LearnerFailure


@dataclass(frozen=True, kw_only=True, slots=True)
class RoundRecord:
    """The history of one round, as it stands in result.json. Times in seconds."""

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
    """Why there is no loss."""
    fit_metrics: Mapping[str, Scalar] = field(default_factory=dict)
    """What the strategy made of the updates' metrics; those of the evaluations are in `metrics`."""
    metrics: Mapping[str, Scalar] = field(default_factory=dict)
    server_loss: float | None = None
    """What the strategy itself found of the model, if it looks; and what else it found."""
    server_metrics: Mapping[str, Scalar] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class Best:
    """The best global model so far: highest accuracy, then lowest loss, then earliest.

    Of those that were evaluated: there is none where no round was.
    """

    round: int
    loss: float | None
    accuracy: float | None

    @staticmethod
    def after(best: Best | None, record: RoundRecord) -> Best | None:
        """The best of those known once another round is complete."""
        if record.loss is None:  # not evaluated
            return best
        if best and _rank(record.accuracy, record.loss) <= _rank(best.accuracy, best.loss):
            return best
        return Best(round=record.round, loss=record.loss, accuracy=record.accuracy)


def _rank(accuracy: float | None, loss: float | None) -> tuple[float, float]:
    return (
        -math.inf if accuracy is None else accuracy,
        -math.inf if loss is None else -loss,
    )
