"""Options of commands for a repository, or the model of a run, outside of a federation."""

from __future__ import annotations

from flops_fl.options.common import RepoOptions
from flops_fl.options.data import LocalDataOptions
from flops_fl.options.described import DATA, option


class HandOptions(LocalDataOptions):
    """A learner's data, in hand."""

    learner: str = option(
        "the id of the learner that it shall be: {id} in a tag", DATA, "learner", metavar="ID"
    )


class RunOptions(RepoOptions, HandOptions):
    """Options of ``flops-fl run``."""
