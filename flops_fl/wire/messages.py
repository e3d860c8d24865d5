"""What an aggregator and a learner say to each other: flops.proto as frozen dataclasses."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from flops_fl.types import Layout, Scalar, Task

PROTOCOL = 1


def _beyond(layout: Layout | None, inline: bytes) -> bool:
    """Whether there are tensors that do not travel with the message itself."""
    return layout is not None and layout.nbytes > len(inline)


@dataclass(frozen=True, kw_only=True, slots=True)
class Hello:
    learner: str
    nonce: str
    fingerprint: str
    protocol: int = PROTOCOL
    commit: str = ""
    versions: Mapping[str, str] = field(default_factory=dict)
    holding: str = ""
    run_id: str = ""
    parameters: int = -1


@dataclass(frozen=True, kw_only=True, slots=True)
class Welcome:
    learner: str
    run_id: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Refusal:
    reason: str
    retry: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Order:
    """A task on the wire; `layout` is set when tensors come with it, inline or in chunks."""

    task: Task
    layout: Layout | None
    inline: bytes = b""

    @property
    def chunks_follow(self) -> bool:
        return _beyond(self.layout, self.inline)


@dataclass(frozen=True, kw_only=True, slots=True)
class Result:
    key: str
    examples: int
    loss: float = 0.0
    metrics: Mapping[str, Scalar] = field(default_factory=dict)
    layout: Layout | None = None
    inline: bytes = b""

    @property
    def needs_grant(self) -> bool:
        return _beyond(self.layout, self.inline)


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
class Cancel:
    key: str
    reason: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Goodbye:
    reason: str = ""
    final: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Ping:
    """Are you alive? Asked of a learner whose id a second process claims."""

    answer: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Chunk:
    of: int
    offset: int
    data: memoryview


Message: TypeAlias = (
    Hello | Welcome | Refusal | Order | Result | Failure | Grant | Cancel | Goodbye | Ping | Chunk
)
