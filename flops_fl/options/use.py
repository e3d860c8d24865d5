"""Options of commands for a repository, or the model of a run, outside of a federation."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Self

from pydantic import model_validator

from flops_fl.options.common import Options, RepoOptions
from flops_fl.options.data import LocalDataOptions
from flops_fl.options.described import DATA, PROCESS, RESULTS, option
from flops_fl.options.kinds import LocalPath, Threads


class HandOptions(LocalDataOptions):
    """A learner's data, in hand."""

    learner: str = option(
        "the id of the learner that it shall be: {id} in a tag", DATA, "learner", metavar="ID"
    )


class RunOptions(RepoOptions, HandOptions):
    """Options of ``flops-fl run``."""

    rest: ClassVar[str] = "-- PROGRAM ..."


class ModelOptions(Options):
    """The model of a run."""

    run: LocalPath = option(
        "a run's folder, such as runs/NAME", RESULTS, metavar="RUN", positional=True
    )
    best: bool = option("the best model; the default", RESULTS, False)
    last: bool = option("the model of the last round", RESULTS, False)
    repo: str | None = option(
        "where its repository is now; default: where it was, as result.json says",
        PROCESS,
        None,
        metavar="REPO",
    )

    @model_validator(mode="after")
    def _one(self) -> Self:
        if self.best and self.last:
            raise ValueError("--best and --last exclude each other: give one")
        return self


class ExportOptions(ModelOptions):
    """Options of ``flops-fl export``."""

    out: Path = option("for the model; its ending says the format", RESULTS, metavar="FILE")
    force: bool = option("overwrite FILE", RESULTS, False)


class EvaluateOptions(ModelOptions, HandOptions):
    """Options of ``flops-fl evaluate``."""

    json_: bool = option("print it as JSON", RESULTS, False, alias="json")
    threads: Threads = option("of numerical libraries; 0 for all cores", PROCESS, 1, metavar="N")
