"""What survives the aggregator: models, and the state of the run, as files.

Models are ``.npz`` files, which `numpy.load` reads without pickle: arrays ``t0``, ``t1``, ...
in the order of the parameters. NumPy's files know no bfloat16 and no float8: such arrays are
stored as their bits, and a text array ``dtypes`` names their types (``t0 bfloat16``, ...).

A checkpoint is a pair in ``checkpoints/``. ``<round>.npz`` has the arrays after that round's fit,
and ``<round>.json`` everything else, with its checksum on the first line. The JSON file is written
once the arrays are on disk, and again after the evaluation. The last few checkpoints are kept, so
if one is damaged, a run resumes from the one before.
"""

from __future__ import annotations

import hashlib
import json
import logging
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from flops_fl import limits
from flops_fl.core.observer import RunInfo
from flops_fl.core.plan import State
from flops_fl.dtypes import as_bits, from_bits
from flops_fl.errors import UsageError
from flops_fl.process.files import atomic
from flops_fl.types import Array, Best, LearnerFailure, Parameters, RoundRecord, parameters_sha256

log = logging.getLogger(__name__)

LAST, BEST, CHECKPOINTS = "model-last.npz", "model-best.npz", "checkpoints"
_ARRAYS = "arrays"  # stands in the JSON file for a list of arrays that is in the .npz file
_DTYPES = "dtypes"
_OURS = re.compile(r"[0-9]{6,}\.(json|npz)(\.part)?")  # names of the files that we write there


@dataclass(frozen=True, kw_only=True, slots=True)
class Checkpoint:
    """A run as it stood after a fit, and after its evaluation unless that is `pending`."""

    run: RunInfo
    history: tuple[RoundRecord, ...]
    best: Best | None
    initial: RoundRecord | None
    pending: RoundRecord | None
    parameters: list[Array]
    strategy: dict[str, Any]
    """What the strategy remembers between rounds: lists of arrays, and plain values."""

    @property
    def state(self) -> State:
        """The state from which a training resumes; a cluster's history may have gaps."""
        last = self.pending or (self.history[-1] if self.history else None)
        return State(
            parameters=self.parameters,
            round=last.round if last else 0,
            history=self.history,
            best=self.best,
            initial=self.initial,
            pending=self.pending,
        )


def save_npz(path: Path, parameters: Parameters) -> None:
    """Write a model atomically and uncompressed, with its dtypes and shapes."""
    _save(path, {f"t{index}": array for index, array in enumerate(parameters)})


def load_npz(path: Path) -> list[Array]:
    """Read a model in the order of its parameters.

    Raises:
        UsageError: the file is missing, cut short or not a model.
    """
    return _series(_read(path), "t")


def load_checkpoint(folder: Path) -> Checkpoint | None:
    """Read the newest undamaged checkpoint in a run's folder; None if there is no checkpoint.

    Raises:
        UsageError: there are checkpoints, and all are damaged.
    """
    errors = []
    for _, path in sorted(_states(folder / CHECKPOINTS), reverse=True):
        try:
            return _load(path)
        except (UsageError, OSError, KeyError, TypeError, ValueError) as error:
            log.warning("checkpoint %s is damaged (%s): the one before is used", path, error)
            errors.append(f"{path.name}: {error}")
    if errors:
        raise UsageError(
            f"all checkpoints in {folder / CHECKPOINTS} are damaged ({'; '.join(errors)}): start "
            "anew with --fresh"
        )
    return None


def load_round(folder: Path, round: int) -> Checkpoint | None:
    """Read the checkpoint with the model that `round` has made; None if it is not kept.

    Raises:
        UsageError: it is damaged.
    """
    path = folder / CHECKPOINTS / f"{round:06d}.json"
    try:
        return _load(path) if path.exists() else None
    except (KeyError, TypeError, ValueError) as error:
        raise UsageError(f"{path} is damaged: {error}") from error


def kept_rounds(folder: Path) -> list[int]:
    """The rounds whose checkpoints a run's folder holds, in order."""
    return sorted(number for number, _ in _states(folder / CHECKPOINTS))


def newest_round(folder: Path) -> int:
    """The round of the newest checkpoint in a run's folder; 0 if there is none."""
    return max(kept_rounds(folder), default=0)


def remove_checkpoints(folder: Path) -> None:
    """Delete all checkpoints in a run's folder; files that are not ours stay."""
    for path in sorted((folder / CHECKPOINTS).glob("*")):  # .json before its .npz
        if _OURS.fullmatch(path.name) and not path.is_dir():
            path.unlink()


def _states(folder: Path) -> list[tuple[int, Path]]:
    """The round and the JSON file of each checkpoint."""
    found = [path for path in folder.glob("*.json") if _OURS.fullmatch(path.name)]
    return [(int(path.stem), path) for path in found if path.is_file()]


def _load(path: Path) -> Checkpoint:
    checksum, _, text = path.read_text().partition("\n")
    if checksum != _sha256(text):
        raise ValueError("its checksum is another")
    state = json.loads(text)
    arrays = _read(path.with_suffix(".npz"))
    if state["arrays"] != _digest_of_arrays(arrays):
        raise ValueError(f"the checksum of {path.stem}.npz is another")
    return Checkpoint(
        run=RunInfo(**state["run"]),
        history=tuple(_record(entry) for entry in state["history"]),
        best=Best(**state["best"]) if state["best"] else None,
        initial=_record(state["initial"]) if state.get("initial") else None,
        pending=_record(state["pending"]) if state["pending"] else None,
        parameters=_series(arrays, "t"),
        strategy={
            name: _series(arrays, f"{name}.") if value == _ARRAYS else value
            for name, value in state["strategy"].items()
        },
    )


class CheckpointWriter:
    """Writes checkpoints into a run's folder.

    Args:
        strategy: Returns what the strategy remembers, lists of arrays and plain values.
        history: The rounds so far, if the run is resumed.
        keep: How many checkpoints are kept.
    """

    def __init__(
        self,
        folder: Path,
        run: RunInfo,
        strategy: Callable[[], Mapping[str, Any]] = lambda: {},
        history: Sequence[RoundRecord] = (),
        *,
        keep: int = limits.CHECKPOINTS,
    ) -> None:
        self._keep = keep
        self._folder = folder / CHECKPOINTS
        self._run = run
        self._strategy = strategy
        self._history = [_as_json(record) for record in history]  # serialised once, not each round
        self._arrays = ""  # digest of the arrays last written; next line: their round
        self._arrays_of = -1
        self._plain: dict[str, Any] = {}

    def write(self, state: State) -> None:
        """Write a new state: the initial one, or that after a fit or after its evaluation.

        Raises:
            OSError: the disk is full or cannot be written.
        """
        self._history += [_as_json(record) for record in state.history[len(self._history) :]]
        # An evaluation does not change the arrays. They are written with it only if this process
        # has not written them after the fit: it was restarted, or the write failed.
        if state.round != self._arrays_of:
            self._write_arrays(state)
        self._write_state(state)

    def _write_arrays(self, state: State) -> None:
        self._arrays_of = -1
        arrays = {f"t{index}": array for index, array in enumerate(state.parameters)}
        self._plain = {}
        for name, value in self._strategy().items():
            self._plain[name] = _ARRAYS if isinstance(value, list) else value
            if isinstance(value, list):
                arrays |= {f"{name}.{index}": array for index, array in enumerate(value)}
        _save(self._path(state.round, ".npz"), arrays)
        self._arrays, self._arrays_of = _digest_of_arrays(arrays), state.round

    def _write_state(self, state: State) -> None:
        parts = {
            "run": _as_json(self._run),
            "history": f"[{', '.join(self._history)}]",
            "best": _as_json(state.best),
            "initial": _as_json(state.initial),
            "pending": _as_json(state.pending),
            "strategy": json.dumps(self._plain),
            "arrays": json.dumps(self._arrays),
        }
        text = f"{{{', '.join(f'{json.dumps(name)}: {part}' for name, part in parts.items())}}}"
        with atomic(self._path(state.round, ".json")) as file:
            file.write(f"{_sha256(text)}\n{text}".encode())
        # A checkpoint of a later round is from an earlier process, so it does not count here.
        written = sorted(item for item in _states(self._folder) if item[0] <= state.round)
        for _, path in written[: -self._keep]:
            path.unlink()  # first: arrays without a .json file are not taken for a checkpoint
            path.with_suffix(".npz").unlink(missing_ok=True)

    def _path(self, round: int, suffix: str) -> Path:
        return self._folder / f"{round:06d}{suffix}"


def _save(path: Path, arrays: Mapping[str, Array]) -> None:
    narrow = [f"{name} {a.dtype.name}" for name, a in arrays.items() if as_bits(a) is not a]
    stored = {name: as_bits(array) for name, array in arrays.items()}
    if narrow:
        stored[_DTYPES] = np.array(narrow)
    with atomic(path) as file:
        np.savez(file, allow_pickle=False, **stored)


def _as_json(value: RunInfo | RoundRecord | Best | None) -> str:
    return "null" if value is None else json.dumps(asdict(value))


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _digest_of_arrays(arrays: Mapping[str, Array]) -> str:
    names = sorted(arrays)
    text = "/".join(names) + parameters_sha256([arrays[name] for name in names])
    return _sha256(text)


def _read(path: Path) -> dict[str, Array]:
    try:
        # We open the file ourselves: np.load(path) leaves it open if the archive is damaged.
        with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
            arrays = dict(stored.items())
            for line in arrays.pop(_DTYPES, ()):
                name, dtype = str(line).split(" ")
                arrays[name] = from_bits(arrays[name], dtype)
            return arrays
    except FileNotFoundError:
        raise UsageError(f"{path} is not there: expected a file that flops-fl wrote") from None
    except Exception as error:  # numpy, zipfile, zlib and struct each raise their own types
        raise UsageError(f"{path} is damaged ({type(error).__name__}: {error})") from error


def _series(arrays: Mapping[str, Array], prefix: str) -> list[Array]:
    """The arrays called prefix0, prefix1, ... in that order."""
    count = sum(name.startswith(prefix) and name[len(prefix) :].isdigit() for name in arrays)
    return [arrays[f"{prefix}{index}"] for index in range(count)]


def _record(entry: dict[str, Any]) -> RoundRecord:
    entry["learners"] = tuple(entry["learners"])
    entry["failures"] = tuple(LearnerFailure(**failure) for failure in entry["failures"])
    return RoundRecord(**entry)
