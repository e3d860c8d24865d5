"""Options of ``flops-fl deps`` and ``flops-fl image``."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, model_validator

from flops_fl.options.common import RepoOptions
from flops_fl.options.described import NETWORK, PROCESS, RESULTS, option
from flops_fl.options.kinds import Listing, LocalPath, TrackingUri, is_in_mlflow
from flops_fl.options.training import Flavor
from flops_fl.options.use import HandOptions

THIS_PYTHON = f"{sys.version_info[0]}.{sys.version_info[1]}"
PLATFORMS = ("linux/amd64", "linux/arm64")


def _platforms(said: list[str]) -> list[str]:
    for each in said:
        if each not in PLATFORMS:
            raise ValueError(f"expected some of {', '.join(PLATFORMS)}")
    return list(dict.fromkeys(said))


def _python(said: str) -> str:
    major, _, minor = said.partition(".")
    if major != "3" or not minor.isdecimal() or int(minor) < 11:
        raise ValueError("expected 3.11 or a newer version, such as 3.12")
    return said


def _registry(said: str) -> str:
    if re.search(r"://|[@\s]", said):
        raise ValueError(
            "expected a registry without a scheme and a login, such as registry.example.org; "
            "docker login stores the login"
        )
    return said


Platforms = Annotated[Listing, AfterValidator(_platforms)]


class ImagesOptions(RepoOptions):
    """What both commands choose packages for."""

    platform: Platforms = option(
        "for which machines, with commas between them",
        PROCESS,
        list(PLATFORMS),
        metavar="PLATFORM",
        repeated=True,
    )
    cpu: bool = option(
        "torch's wheels without CUDA, from PyTorch's own package index", PROCESS, False
    )
    json_: bool = option("print the result as JSON", RESULTS, False, alias="json")


class ImageOptions(ImagesOptions):
    """Options of ``flops-fl image``."""

    repo: str = option(
        "a folder, or a Git URL with an optional @ref; with --role inference a run's folder, or a "
        "model in MLflow: models:/NAME@ALIAS, runs:/ID/...",
        PROCESS,
        metavar="REPO|RUN|MODEL",
        positional=True,
    )
    role: Literal["learner", "aggregator", "both", "inference"] = option(
        "which images; inference: one that serves a run's best model", PROCESS, "both"
    )
    run: LocalPath | None = option(
        "with --role inference: the run's folder, if its repository has moved to REPO",
        RESULTS,
        None,
        metavar="RUN",
    )
    tracking_uri: TrackingUri | None = option(
        "the MLflow server of models:/ and runs:/", RESULTS, None, metavar="URI"
    )
    base: str = option(
        "an image with Python and glibc, at a registry or in an OCI layout, to build on",
        PROCESS,
        f"python:{THIS_PYTHON}-slim",
        metavar="IMAGE",
        shown="python:VERSION-slim, as it runs here",
    )
    out: LocalPath = option(
        "where to write the images, as an OCI layout; one that is there is replaced",
        RESULTS,
        Path("images"),
        metavar="FOLDER",
    )
    push: Annotated[str, AfterValidator(_registry)] | None = option(
        "a registry to push the images to, such as registry.example.org",
        NETWORK,
        None,
        metavar="REGISTRY",
    )
    model_flavor: Flavor | None = option(
        "MLflow flavor of the model, set in the images as ML_MODEL_FLAVOR; default: detected",
        PROCESS,
        None,
        advanced=True,
    )

    @property
    def roles(self) -> tuple[str, ...]:
        """The roles for which images are built."""
        return ("learner", "aggregator") if self.role == "both" else (self.role,)

    @property
    def in_mlflow(self) -> bool:
        """Whether the model is one of MLflow's, not of a run's folder."""
        return is_in_mlflow(self.repo)

    @model_validator(mode="after")
    def _some(self) -> Self:
        if not self.platform:
            raise ValueError(f"--platform: expected some of {', '.join(PLATFORMS)}")
        if self.role != "inference" and (self.run or self.in_mlflow):
            what = f"--run {self.run}" if self.run else self.repo
            raise ValueError(f"{what} is for --role inference: give that, or a repository alone")
        if self.in_mlflow and self.tracking_uri is None:
            raise ValueError(f"{self.repo} is in MLflow: say where with --tracking-uri URI")
        return self


class DepsOptions(ImagesOptions, HandOptions):
    """Options of ``flops-fl deps``."""

    python: Annotated[str, AfterValidator(_python)] = option(
        "the version of Python in the images",
        PROCESS,
        THIS_PYTHON,
        metavar="VERSION",
        shown="the one that runs here",
    )
    write: bool = option("write conda.yaml anew, and requirements.lock", RESULTS, False)
