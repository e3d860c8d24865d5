"""The outcomes of a learner process's tasks, for its messages and its exit code."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from flops_fl.core.failures import Kind, kind_of
from flops_fl.errors import FederationError, FlopsError, RepositoryError
from flops_fl.wire.messages import Goodbye

log = logging.getLogger(__name__)


class Outcomes:
    """Records which tasks succeeded and which failed, by learner.

    Args:
        hosted: Whether the aggregator is on the same terminal and reports failures itself.
    """

    def __init__(self, *, hosted: bool) -> None:
        self._hosted = hosted
        self._done: set[tuple[str, str]] = set()  # learner and stage
        self._failed: dict[tuple[str, str], FlopsError] = {}
        self._shown: set[tuple[str, Kind]] = set()

    @contextmanager
    def of(self, learner: str, stage: str) -> Iterator[None]:
        """Record the outcome of the task that runs within the ``with``."""
        try:
            yield
        except FlopsError as error:
            self._failed[learner, stage] = error
            if not self._hosted:
                self._say(learner, stage, error)
            raise
        self._done.add((learner, stage))

    def verdict(self, goodbye: Goodbye) -> FlopsError | None:
        """The error with which a learner process ends, if any.

        It is a learner's RepositoryError or DataError if that learner failed in each of its fits,
        or, if it had none, in each of its evaluations. Otherwise it is a FederationError if the
        project failed.
        """
        if self._hosted:
            return None  # the simulation ends with the aggregator's exit code
        for (learner, stage), error in sorted(self._failed.items(), key=lambda item: item[0]):
            fits = {(learner, "fit")} & {*self._done, *self._failed}
            if (learner, stage) not in self._done and (stage == "fit" or not fits):
                said = f"{learner} failed in each {stage} that it was asked for. The last: {error}"
                if isinstance(error, RepositoryError):
                    return RepositoryError(said, stage=error.stage)
                return type(error)(said)
        ended = f"the project has ended: {goodbye.reason}"
        return FederationError(ended) if goodbye.failed else None

    def _say(self, learner: str, stage: str, error: FlopsError) -> None:
        """Log a failure; the first time it comes with the user's traceback."""
        text = f"[{learner}] {stage} failed: {error}"
        traceback = error.traceback if isinstance(error, RepositoryError) else ""
        shown = (learner, kind_of(stage, str(error)))
        if traceback and shown not in self._shown:
            text += "\n" + traceback.rstrip()
        self._shown.add(shown)
        log.warning("%s", text)
