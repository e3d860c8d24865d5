"""The messages between aggregator and learner: flops.proto as frozen dataclasses."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from flops_fl.dtypes import OPAQUE
from flops_fl.errors import ProtocolError
from flops_fl.text import sentence
from flops_fl.types import Layout, Parameters, Scalar, Setup, Task, TensorSpec

PROTOCOL = 2
REASON = 500  # characters


class _Explained:
    """Says why. The other side shows the reason, so it is one line without control characters."""

    __slots__ = ()
    reason: str

    def __post_init__(self) -> None:
        object.__setattr__(self, "reason", sentence(self.reason, REASON))


def _beyond(nbytes: int | None, inline: bytes) -> bool:
    """Whether there are tensors that do not travel inside the message."""
    return nbytes is not None and nbytes > len(inline)


@dataclass(frozen=True, kw_only=True, slots=True)
class Hello:
    learner: str
    nonce: str
    fingerprint: str
    protocol: int = PROTOCOL
    commit: str = ""
    versions: Mapping[str, str] = field(default_factory=dict)
    task: str = ""
    """Key of the task that the learner works on, or has finished and not delivered."""
    run_id: str = ""
    version: int = -1
    """With `run_id`, the parameters that the learner holds; -1: none."""
    state: str = ""

    @property
    def setup(self) -> Setup:
        """What the learner trains with."""
        return Setup(commit=self.commit, versions=self.versions, state=self.state)


@dataclass(frozen=True, kw_only=True, slots=True)
class Welcome:
    learner: str
    run_id: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Refusal(_Explained):
    reason: str
    retry: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Order:
    """A task on the wire, with `nbytes` of parameters, inline or in chunks that follow."""

    task: Task
    nbytes: int | None = None
    """None: the learner holds the task's version already."""
    inline: bytes = b""
    sizes: tuple[int, ...] = ()
    """Bytes of each item of an opaque model."""

    @property
    def chunks_follow(self) -> bool:
        return _beyond(self.nbytes, self.inline)


@dataclass(frozen=True, kw_only=True, slots=True)
class Result:
    """A task is done. A fit's parameters come inline, or in chunks after a Grant."""

    key: str
    examples: int
    loss: float = 0.0
    metrics: Mapping[str, Scalar] = field(default_factory=dict)
    nbytes: int | None = None
    inline: bytes = b""
    sizes: tuple[int, ...] = ()
    """Bytes of each item of an opaque model."""
    data: str = ""
    """Hash of the rows that a fit was trained on."""
    parameters: Parameters | None = None
    """Decoded tensors from a Flower client; None on our own wire."""

    @property
    def needs_grant(self) -> bool:
        return _beyond(self.nbytes, self.inline)


@dataclass(frozen=True, kw_only=True, slots=True)
class Failure:
    key: str
    stage: str
    reason: str
    traceback: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Grant:
    key: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Cancel(_Explained):
    key: str
    reason: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Goodbye(_Explained):
    reason: str = ""
    final: bool = False
    failed: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Ping:
    """Are you alive? Asked of a learner whose id a second process claims."""

    answer: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Chunk:
    """A piece of a model's bytes. `version`: see flops.proto."""

    version: int
    offset: int
    data: memoryview


def layout_of(message: Order | Result, layout: Layout) -> Layout:
    """The layout of the parameters that come with `message`, for a model of `layout`.

    Raises:
        ProtocolError: the parameters do not fit such a model; says why. Both ends have compared
            their layouts, so a peer that keeps to the protocol cannot send such a message.
    """
    nbytes, sizes = message.nbytes or 0, message.sizes
    if not layout.opaque:
        if nbytes != layout.nbytes:
            raise ProtocolError(f"{nbytes} bytes, expected {layout.nbytes}")
        if sizes:
            raise ProtocolError(f"{len(sizes)} sizes of items, expected none: it has tensors")
        return layout
    if len(sizes) != len(layout.tensors) or sum(sizes) != nbytes:
        raise ProtocolError(
            f"{len(sizes)} items of {sum(sizes)} bytes in {nbytes}, expected {len(layout.tensors)}"
        )
    return Layout(tuple(TensorSpec(OPAQUE, (size,)) for size in sizes))


Message: TypeAlias = (
    Hello | Welcome | Refusal | Order | Result | Failure | Grant | Cancel | Goodbye | Ping | Chunk
)
