"""The run's folder while the run goes on: what each fit and each evaluation leaves in it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from flops_fl import limits
from flops_fl.core.observer import RunInfo
from flops_fl.core.plan import State
from flops_fl.run.checkpoint import BEST, CHECKPOINTS, LAST, CheckpointWriter, save_npz
from flops_fl.run.result import PICTURE, RESULT, result_document, write_result

log = logging.getLogger(__name__)


class FolderJournal:
    """Writes a training's states into a folder, which is from then on this run's alone.

    Args:
        strategy: Gives what the strategy remembers, lists of arrays and plain values.
        keep: How many checkpoints stay.
    """

    def __init__(
        self,
        folder: Path,
        run: RunInfo,
        strategy: Callable[[], Mapping[str, Any]] = lambda: {},
        keep: int = limits.CHECKPOINTS,
    ) -> None:
        self._folder = folder
        self._run = run
        self._strategy = strategy
        self._keep = keep
        self._checkpoints = CheckpointWriter(folder, run, strategy, keep=keep)

    def begin(self, state: State) -> None:
        """Say that the run is under way; a new one takes away what an earlier one left."""
        self._checkpoints = CheckpointWriter(
            self._folder, self._run, self._strategy, state.history, keep=self._keep
        )
        with self._tolerant("its start"):
            if state.round == 0:
                clear(self._folder)
            document = result_document(self._run, state, status="running")
            write_result(self._folder / RESULT, document)
            if state.round == 0:
                self._checkpoints.write(state)

    def write(self, state: State) -> None:
        """A checkpoint, and the best model if this is it."""
        with self._tolerant(f"the checkpoint of round {state.round}"):
            if state.pending is None and state.best and state.best.round == state.round:
                save_npz(self._folder / BEST, state.parameters)
            self._checkpoints.write(state)

    @contextmanager
    def _tolerant(self, what: str) -> Iterator[None]:
        """A disk that is full or read-only for a while does not end a training."""
        try:
            yield
        except OSError as error:
            log.warning(
                "%s cannot be written to %s (%s): the run goes on, and a crash now costs what "
                "came after the last one that was", what, self._folder, error.strerror,
            )  # fmt: skip


def clear(folder: Path) -> None:
    """Take away what an earlier run left: its checkpoints first, so that none goes on with it.

    MLflow's store stays: it holds the runs of many trainings, each under its id.
    """
    for path in sorted((folder / CHECKPOINTS).glob("*")):
        path.unlink()
    for name in (RESULT, LAST, BEST, PICTURE):
        (folder / name).unlink(missing_ok=True)
