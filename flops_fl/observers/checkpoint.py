"""What survives the aggregator: the last and the best model, and the state after each round.

Models are ``.npz`` files, which `numpy.load` reads without pickle: arrays ``t0``, ``t1``, ...
in the order of the parameters.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from flops_fl.core.observer import Observer, RunInfo
from flops_fl.errors import UsageError
from flops_fl.observers.files import atomic
from flops_fl.types import (
    Array,
    Best,
    LearnerFailure,
    Parameters,
    RoundRecord,
    parameters_sha256,
)

LAST, BEST, CHECKPOINT = "model-last.npz", "model-best.npz", "checkpoint.npz"
_STATE = "state"
_ARRAYS = "arrays"  # stands in the state for a list of arrays beside it


@dataclass(frozen=True, kw_only=True, slots=True)
class Checkpoint:
    """A run as it stood after its last complete round."""

    run: RunInfo
    history: tuple[RoundRecord, ...]
    best: Best
    parameters: list[Array]
    strategy: dict[str, Any]
    """What the strategy remembers between rounds: lists of arrays, and plain values."""


def save_npz(path: Path, parameters: Parameters) -> None:
    """Write a model atomically, uncompressed, dtypes and shapes as they are."""
    _save(path, {f"t{index}": array for index, array in enumerate(parameters)})


def load_npz(path: Path) -> list[Array]:
    """Read a model in the order of its parameters.

    Raises:
        UsageError: the file is missing, cut short or no model.
    """
    return _series(_read(path), "t")


def load_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint and verify it.

    Raises:
        UsageError: it is missing, cut short, or not what was written.
    """
    arrays = _read(path)
    try:
        state = json.loads(arrays.pop(_STATE).tobytes())
        if state.pop("sha256") != _digest(state, arrays):
            raise ValueError("checksum")  # noqa: TRY301 - handled like the others below
        return Checkpoint(
            run=RunInfo(**state["run"]),
            history=tuple(_record(entry) for entry in state["history"]),
            best=Best(**state["best"]),
            parameters=_series(arrays, "t"),
            strategy={
                name: _series(arrays, f"{name}.") if value == _ARRAYS else value
                for name, value in state["strategy"].items()
            },
        )
    except (KeyError, TypeError, ValueError) as error:
        raise _damaged(path, error) from error


class CheckpointObserver(Observer):
    """Writes the models and the checkpoint into a folder after each round.

    Args:
        strategy: Gives what the strategy remembers, lists of arrays and plain values.
    """

    def __init__(
        self, folder: Path, strategy: Callable[[], Mapping[str, Any]] = lambda: {}
    ) -> None:
        self._folder = folder
        self._strategy = strategy
        self._run: RunInfo | None = None
        self._history: list[RoundRecord] = []

    def on_start(self, run: RunInfo, history: Sequence[RoundRecord]) -> None:
        self._run, self._history = run, list(history)

    def on_round(self, record: RoundRecord, parameters: Parameters, best: Best) -> None:
        assert self._run is not None
        self._history.append(record)
        if best.round == record.round:
            save_npz(self._folder / BEST, parameters)
        arrays = {f"t{index}": array for index, array in enumerate(parameters)}
        plain: dict[str, Any] = {}
        for name, value in self._strategy().items():
            plain[name] = _ARRAYS if isinstance(value, list) else value
            if isinstance(value, list):
                arrays |= {f"{name}.{index}": array for index, array in enumerate(value)}
        state: dict[str, Any] = {
            "run": asdict(self._run),
            "history": [asdict(entry) for entry in self._history],
            "best": asdict(best),
            "strategy": plain,
        }
        # JSON turns tuples into lists and back only if both sides of the checksum have them.
        state = json.loads(json.dumps(state))
        state["sha256"] = _digest(state, arrays)
        raw = np.frombuffer(json.dumps(state).encode(), np.uint8)
        _save(self._folder / CHECKPOINT, {**arrays, _STATE: raw})

    def on_end(self, status: str, error: str | None, parameters: Parameters) -> None:
        save_npz(self._folder / LAST, parameters)


def _save(path: Path, arrays: Mapping[str, Array]) -> None:
    with atomic(path) as file:
        np.savez(file, allow_pickle=False, **arrays)


def _digest(state: Mapping[str, Any], arrays: Mapping[str, Array]) -> str:
    names = sorted(arrays)
    text = json.dumps(state, sort_keys=True) + "/".join(names)
    text += parameters_sha256([arrays[name] for name in names])
    return hashlib.sha256(text.encode()).hexdigest()


def _read(path: Path) -> dict[str, Array]:
    try:
        # Opened here: numpy leaves its own file open when the archive is no good.
        with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
            return dict(stored.items())
    except FileNotFoundError:
        raise UsageError(f"{path} is not there: expected a file that flops-fl wrote") from None
    except Exception as error:  # numpy, zipfile, zlib, struct: each has its own
        raise _damaged(path, error) from error


def _damaged(path: Path, error: Exception) -> UsageError:
    return UsageError(
        f"{path} is damaged ({type(error).__name__}: {error}): remove it, or start with --fresh"
    )


def _series(arrays: Mapping[str, Array], prefix: str) -> list[Array]:
    """The arrays called prefix0, prefix1, ... in that order."""
    count = sum(name.startswith(prefix) and name[len(prefix) :].isdigit() for name in arrays)
    return [arrays[f"{prefix}{index}"] for index in range(count)]


def _record(entry: dict[str, Any]) -> RoundRecord:
    entry["learners"] = tuple(entry["learners"])
    entry["failures"] = tuple(LearnerFailure(**failure) for failure in entry["failures"])
    return RoundRecord(**entry)
