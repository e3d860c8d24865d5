"""The data that `load_dataset()` gives to a learner's code, in all programs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from flops_fl.data.servers import FlightData
from flops_fl.errors import DataError


def learners_data(
    data: Path | FlightData | None, tags: Sequence[str], learner: str
) -> Callable[[], Any]:
    """A function that loads a learner's data; ``{id}`` in a tag stands for the learner's id.

    The function raises DataError if there is no data, or none that can be read. With data servers
    it also raises Unreachable if one does not answer, and Refused if one does not let us in.
    """
    given = [tags] if isinstance(tags, str) else tags
    own = [tag.replace("{id}", learner) for tag in given]

    def load() -> Any:
        from flops_fl.data.folder import load_folder

        if data is None:
            raise DataError(
                "the model asks for training data and there is none: give --data PATH with "
                "Parquet or Arrow files"
            )
        if isinstance(data, FlightData):
            from flops_fl.data.flights import load_flights

            return load_flights(data, own)
        return load_folder(data, own)

    return load
