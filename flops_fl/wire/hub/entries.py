"""What an intake knows of each learner's answer, and the room that it has for them."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto
from pathlib import Path

from flops_fl import limits
from flops_fl.types import Answer, Layout, Task
from flops_fl.wire.chunks import Assembler
from flops_fl.wire.messages import Result, layout_of


class Status(Enum):
    """How far an answer has come."""

    WORKING = auto()
    OFFERED = auto()
    UPLOADING = auto()
    SETTLED = auto()


@dataclass(slots=True)
class Entry:
    """One learner's task and the answer to it."""

    task: Task
    layout: Layout  # of the update, or what is expected of it
    status: Status = Status.WORKING
    result: Result | None = None
    upload: Assembler | None = None
    charge: int = 0  # bytes of the budget
    answer: Answer | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Room:
    """Where updates may lie until they are given out. Sizes in bytes, times in seconds."""

    budget: int = limits.MEMORY_BUDGET
    """Of updates in memory at a time; one is always allowed."""
    spool: Path | None = None
    """Folder for updates beyond it; None: where temporary files go."""
    opaque_update: int = limits.OPAQUE_UPDATE
    """Of one update of an opaque model, whose sizes are free: what is beyond is refused."""
    patience: float = limits.SPOOL_PATIENCE
    """How long the next in order is waited for before others go to the spool."""

    def admitted(self, result: Result, layout: Layout) -> Layout:
        """The layout of an update, for a model of this layout.

        Raises:
            ValueError: it is no update of such a model, or too large; says why.
        """
        if result.parameters is None:
            own = layout_of(result, layout)
        else:
            own = Layout.of(result.parameters)
            difference = layout.difference(own)
            if difference:
                raise ValueError(difference)
        if own.opaque and own.nbytes > self.opaque_update:
            raise ValueError(
                f"{own.nbytes} bytes, at most {self.opaque_update} are allowed (--opaque-update)"
            )
        return own
