"""What an intake knows about each learner's answer, and the memory it may use for them."""

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
    layout: Layout  # of the update; the expected one until the update is announced
    status: Status = Status.WORKING
    result: Result | None = None
    upload: Assembler | None = None
    charge: int = 0  # bytes of the budget that the update takes
    answer: Answer | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Room:
    """Where updates are kept until they are given out. Sizes in bytes, times in seconds."""

    budget: int = limits.MEMORY_BUDGET
    """Bytes of all updates in memory at a time. One update is always allowed."""
    spool: Path | None = None
    """Folder for the updates beyond the budget; None: the folder for temporary files."""
    opaque_update: int = limits.OPAQUE_UPDATE
    """Largest size of one update of an opaque model, whose arrays may have any size."""
    patience: float = limits.SPOOL_PATIENCE
    """How long to wait for the next update in order before later ones go to the spool."""

    def admitted(self, result: Result, layout: Layout) -> Layout:
        """The layout of the update in `result`, for a global model of `layout`.

        Raises:
            ProtocolError: our own learner announces tensors of another layout.
            ValueError: the update does not fit such a model, or is too large; says why.
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
                f"{own.nbytes} bytes, expected at most {self.opaque_update} (--opaque-update)"
            )
        return own
