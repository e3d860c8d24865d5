"""Options of commands for a repository, or the model of a run, outside of a federation."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Literal, Self

from pydantic import PositiveInt, model_validator

from flops_fl.net.address import Address
from flops_fl.options.common import ListenOptions, Options, RepoOptions
from flops_fl.options.data import DataOptions
from flops_fl.options.described import DATA, NETWORK, PROCESS, RESULTS, TRAINING, option
from flops_fl.options.kinds import HostPort, LocalPath, Threads, TrackingUri, is_in_mlflow


class HandOptions(DataOptions):
    """A learner's data, outside of a federation."""

    learner: str = option(
        "the learner's id, which {id} in a data tag stands for", DATA, "learner", metavar="ID"
    )


class RunOptions(RepoOptions, HandOptions):
    """Options of ``flops-fl run``."""

    rest: ClassVar[str] = "-- PROGRAM ..."


class MovedOptions(Options):
    """The repository of a run, which may have moved."""

    repo: str | None = option(
        "where the run's repository is now; default: where result.json says that it was",
        PROCESS,
        None,
        metavar="REPO",
    )


class ModelOptions(MovedOptions):
    """The model of a run."""

    run: LocalPath = option(
        "a run's folder, such as runs/NAME", RESULTS, metavar="RUN", positional=True
    )
    best: bool = option("the best model; the default", RESULTS, False)
    last: bool = option("the model of the last round", RESULTS, False)

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


class ReplayOptions(MovedOptions, DataOptions):
    """Options of ``flops-fl replay``."""

    run: LocalPath = option(
        "a run's folder, such as runs/NAME", RESULTS, metavar="RUN", positional=True
    )
    round: PositiveInt = option("the round", TRAINING, metavar="R")
    learner: str = option("the learner's id", TRAINING, metavar="ID")
    stage: Literal["fit", "evaluate"] = option("what the learner did", TRAINING, "fit")
    pdb: bool = option("open Python's debugger where it fails", PROCESS, False)
    data: str | None = option(  # type: ignore[assignment]  # of a simulation it is a source
        "the learner's data, as it had them: files or data servers; with --learners, the --data "
        "of the simulation",
        DATA,
        None,
        metavar="PATH",
    )
    learners: PositiveInt | None = option(
        "number of learners of the simulation, which has split the data", DATA, None, metavar="N"
    )
    partition: str = option("how it has split them", DATA, "iid", metavar="SCHEME")
    resize: PositiveInt | None = option("images were made N x N", DATA, None, metavar="N")
    threads: Threads = option(
        "threads of numerical libraries, as the learner had", PROCESS, 1, metavar="N"
    )
    json_: bool = option("print it as JSON", RESULTS, False, alias="json")


class ServeOptions(ListenOptions, MovedOptions):
    """Options of ``flops-fl serve``."""

    model: str = option(
        "a run's folder, or a model in MLflow: models:/NAME@ALIAS, runs:/ID/...",
        RESULTS,
        metavar="RUN|MODEL",
        positional=True,
    )
    last: bool = option("of a run: the model of the last round, not the best", RESULTS, False)
    tracking_uri: TrackingUri | None = option(
        "the MLflow server of models:/ and runs:/", RESULTS, None, metavar="URI"
    )
    listen: HostPort = option(
        "where to listen", NETWORK, Address("127.0.0.1", 5001), metavar="HOST:PORT"
    )

    @property
    def here(self) -> str:
        """Where the options are given, for messages."""
        return "on a server"

    @property
    def in_mlflow(self) -> bool:
        """Whether the model is one of MLflow's, not of a run's folder."""
        return is_in_mlflow(self.model)

    @model_validator(mode="after")
    def _fitting(self) -> Self:
        if self.in_mlflow and self.tracking_uri is None:
            raise ValueError(f"{self.model} is in MLflow: say where with --tracking-uri URI")
        return self


class EvaluateOptions(ModelOptions, HandOptions):
    """Options of ``flops-fl evaluate``."""

    json_: bool = option("print it as JSON", RESULTS, False, alias="json")
    threads: Threads = option(
        "threads of numerical libraries; 0: all cores", PROCESS, 1, metavar="N"
    )
