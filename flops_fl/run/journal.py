"""Writes each new state of a running training into the run's folder."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from flops_fl import limits
from flops_fl.core.observer import RunInfo
from flops_fl.core.plan import State
from flops_fl.run.checkpoint import BEST, LAST, CheckpointWriter, remove_checkpoints, save_npz
from flops_fl.run.folder import shown
from flops_fl.run.result import (
    PARTITION,
    PICTURE,
    RESULT,
    RUNNING,
    read_result,
    result_document,
    write_result,
)

log = logging.getLogger(__name__)

EARLIER = "earlier"  # the folder with the results of finished runs, in a run's folder
_RESULTS = (LAST, BEST, PARTITION, PICTURE, RESULT)  # the last one tells whose the others are


class FolderJournal:
    """Writes a training's states into a folder that belongs to this run alone.

    Args:
        strategy: Returns what the strategy remembers, lists of arrays and plain values.
        keep: How many checkpoints are kept.
        fresh: Whether a new run deletes the results of a finished run in the folder, or else sets
            them aside.
    """

    def __init__(
        self,
        folder: Path,
        run: RunInfo,
        strategy: Callable[[], Mapping[str, Any]] = lambda: {},
        keep: int = limits.CHECKPOINTS,
        *,
        fresh: bool = False,
    ) -> None:
        self._fresh = fresh
        self._folder = folder
        self._run = run
        self._strategy = strategy
        self._keep = keep
        self._checkpoints = CheckpointWriter(folder, run, strategy, keep=keep)
        self._newest = (0, True)  # on disk: the round, and whether with its evaluation

    def begin(self, state: State) -> None:
        """Write result.json as running; a new run first clears away what an earlier run left."""
        self._checkpoints = CheckpointWriter(
            self._folder, self._run, self._strategy, state.history, keep=self._keep
        )
        # Counts as on disk even if the write fails: a restart gets the same state again.
        self._newest = _mark(state)
        with self._tolerant("its start"):
            if state.round == 0:
                clear(self._folder, keep=not self._fresh)
            document = result_document(self._run, state, status=RUNNING)
            write_result(self._folder / RESULT, document)
            if state.round == 0:
                self._checkpoints.write(state)

    def write(self, state: State) -> None:
        """Write a checkpoint, and the model as the best one if this round is the best."""
        with self._tolerant(f"the checkpoint of round {state.round}"):
            self._write(state)

    def secure(self, state: State) -> bool:
        """Return whether a state is on disk, after one more try to write it if it is not."""
        if self._newest != _mark(state):
            with suppress(OSError):
                self._write(state)
        return self._newest == _mark(state)

    @property
    def newest_round(self) -> int:
        """The newest round on disk, after which a resumed run would continue."""
        return self._newest[0]

    def _write(self, state: State) -> None:
        if state.pending is None and state.best and state.best.round == state.round:
            # Delete the old file first: if the write fails, it would be of another round.
            (self._folder / BEST).unlink(missing_ok=True)
            save_npz(self._folder / BEST, state.parameters)
        self._checkpoints.write(state)
        self._newest = _mark(state)

    @contextmanager
    def _tolerant(self, what: str) -> Iterator[None]:
        """Log an OSError instead of raising it: a full disk does not end a training."""
        try:
            yield
        except OSError as error:
            log.warning(
                "%s cannot be written to %s (%s): the run goes on, and a crash now costs what "
                "came after the last one that was", what, self._folder, error.strerror,
            )  # fmt: skip


def _mark(state: State) -> tuple[int, bool]:
    return state.round, state.pending is None


def clear(folder: Path, *, keep: bool) -> None:
    """Delete what an earlier run left, its checkpoints first, so that no run resumes from them.

    MLflow's store stays, since it holds the runs of many trainings, each under its id.

    Args:
        keep: Whether the results of a finished run are moved to ``earlier/RUN-ID`` instead.
    """
    remove_checkpoints(folder)
    earlier = read_result(folder)
    if keep and earlier.get("status") == "completed":
        aside = folder / EARLIER / Path(str(earlier.get("run_id"))).name
        aside.mkdir(parents=True, exist_ok=True)
        for name in _RESULTS:
            with suppress(FileNotFoundError):
                (folder / name).replace(aside / name)
        log.info("the results of the finished run that was here are in %s", shown(aside))
    for name in _RESULTS:
        (folder / name).unlink(missing_ok=True)
