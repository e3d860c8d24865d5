"""Options of ``python -m learner``."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, PositiveFloat, model_validator

from flops_fl.options.common import HealthOptions, RepoOptions, TlsOptions
from flops_fl.options.kinds import HostPort, Listing, LocalPath


class LearnerOptions(RepoOptions, TlsOptions, HealthOptions):
    """Options of ``python -m learner``."""

    aggregator: HostPort = Field(description="HOST:PORT of the aggregator")
    data: LocalPath | None = Field(None, description="folder of Parquet or Arrow files to train on")
    data_tags: Listing = Field(
        default_factory=list,
        description="use only files named TAG.<anything>.parquet; {id} stands for the learner's id",
    )
    learner_id: Listing = Field(
        default_factory=list,
        description="this learner's id, default: the certificate's name, else the host's; "
        "several, with commas, are hosted in this one process",
    )
    connect_timeout: PositiveFloat = Field(
        300.0, description="seconds to try to reach the aggregator at the start"
    )
    reconnect_timeout: PositiveFloat = Field(
        3600.0, description="seconds to try to come back after the connection was lost"
    )
    threads: int = Field(
        1,
        ge=0,
        description="threads for numerical libraries; 0 for all cores. Results are the same on "
        "every machine only if it is the same for all learners",
    )
    protocol: Literal["native", "flower"] = Field(
        "native", description="native, or flower: the aggregator is a stock Flower server"
    )
    log_folder: LocalPath | None = Field(
        None,
        description="folder for what the repository's code prints, ID.log, and the files that it "
        "writes, ID/; default: prints go to stdout and stderr, files to a temporary folder",
    )
    stay: bool = Field(False, description="wait for the next project when one has ended")
    quiet: bool = Field(False, description="say nothing but errors")

    @model_validator(mode="after")
    def _safe(self) -> Self:
        if not (self.aggregator.loopback or self.tls_ca or self.insecure):
            raise ValueError(
                f"--aggregator {self.aggregator} is another machine: give --tls-ca, or say "
                "--insecure"
            )
        if self.protocol == "flower" and len(self.learner_id) > 1:
            raise ValueError("--protocol flower takes one --learner-id a process")
        return self
