"""The data that `load_dataset()` gives to a learner's code, in all programs."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeAlias

from flops_fl.data.servers import FlightData
from flops_fl.errors import DataError
from flops_fl.options.data import DataOptions
from flops_fl.options.reading import build

Place: TypeAlias = Path | FlightData
"""A folder or a file, or data servers."""


def place_of(options: DataOptions, **limits: float) -> Place | None:
    """The place that options name; None if they name none.

    Args:
        limits: Of `FlightData`.

    Raises:
        UsageError, Refused: a file for TLS cannot be used.
    """
    if not isinstance(options.data, tuple):
        return options.data
    return FlightData(
        servers=options.data,
        tls=options.tls(),
        cache=options.data_cache,
        connect_timeout=options.connect_timeout,
        **limits,
    )


def place_at(
    data: str | os.PathLike[str] | None, **tls: str | os.PathLike[str] | None
) -> Place | None:
    """The place that a caller from Python names, with the files ``tls_cert``, ``_key``, ``_ca``.

    Raises:
        UsageError, Refused: it is none, or a file for TLS cannot be used.
    """
    given = {name: os.fspath(v) for name, v in {"data": data, **tls}.items() if v is not None}
    return place_of(build(DataOptions, {"insecure": True, **given}))


class DataPlace:
    """Where a learner's data are; ``{id}`` in a tag stands for the learner's id.

    Its methods raise DataError if there is no data, or none that can be read. With data servers
    they also raise Unreachable if one does not answer, and Refused if one does not let us in.
    """

    def __init__(self, data: Place | None, tags: Sequence[str], learner: str) -> None:
        self._data = data
        given = [tags] if isinstance(tags, str) else tags
        self._tags = [tag.replace("{id}", learner) for tag in given]

    def load(self, patience: float | None = None) -> Any:
        """Load the dataset.

        Args:
            patience: Seconds to wait for a server that is away; None for its `connect_timeout`.
        """
        from flops_fl.data.folder import load_folder

        place = self._asked(patience)
        if isinstance(place, FlightData):
            from flops_fl.data.flights import load_flights

            return load_flights(place, self._tags)
        return load_folder(place, self._tags)

    def state(self, patience: float | None = None) -> tuple[str, list[str]]:
        """The fingerprint of the dataset that `load` would give, and names; reads no rows."""
        from flops_fl.data.folder import state_of_folder

        place = self._asked(patience)
        if isinstance(place, FlightData):
            from flops_fl.data.flights import state_of_flights

            return state_of_flights(place, self._tags)
        return state_of_folder(place, self._tags)

    def _asked(self, patience: float | None) -> Place:
        if self._data is None:
            raise DataError(
                "the model asks for training data and there is none: give --data PATH with "
                "Parquet or Arrow files"
            )
        if isinstance(self._data, FlightData) and patience is not None:
            return replace(self._data, connect_timeout=min(patience, self._data.connect_timeout))
        return self._data
