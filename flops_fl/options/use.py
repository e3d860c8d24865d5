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
    """A learner's data, outside of a federation."""

    learner: str = option(
        "the learner's id, which {id} in a data tag stands for", DATA, "learner", metavar="ID"
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
        "where the run's repository is now; default: where result.json says that it was",
        PROCESS,
        None,
        metavar="REPO",
    )

    @model_validator(mode="after")
    def _one(self) -> Self:
        if self.best and self.last:
            raise ValueError("--best and --last exclude each other: give one")
        return self


class ExportOptions(ModelOptions, HandOptions):
    """Options of ``flops-fl export``."""

    out: Path = option(
        "where to write the model; the file's ending says the format", RESULTS, metavar="FILE"
    )
    force: bool = option("overwrite FILE", RESULTS, False)


class EvaluateOptions(ModelOptions, HandOptions):
    """Options of ``flops-fl evaluate``."""

    json_: bool = option("print it as JSON", RESULTS, False, alias="json")
    threads: Threads = option(
        "threads of numerical libraries; 0: all cores", PROCESS, 1, metavar="N"
    )
