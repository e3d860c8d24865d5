"""Options of ``python -m learner``."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import model_validator

from flops_fl import limits
from flops_fl.net.identity import EXPECTED, is_name
from flops_fl.options.common import HealthOptions, RepoOptions
from flops_fl.options.data import DataOptions
from flops_fl.options.described import DATA, NETWORK, PROCESS, RESULTS, WAITING, option
from flops_fl.options.kinds import (
    HostPort,
    Listing,
    LocalPath,
    ProjectId,
    Seconds,
    Threads,
)
from flops_fl.options.limits import CommonLimits, LineLimits, PrintLimits
from flops_fl.options.notices import NoticeOptions
from flops_fl.text import sentence


class LearnerOptions(
    RepoOptions,
    DataOptions,
    HealthOptions,
    NoticeOptions,
    LineLimits,
    PrintLimits,
    CommonLimits,
):
    """Options of ``python -m learner``."""

    refresh_data: Literal["round", "never"] = option(
        "round: before a fit, load data that have changed; never: only at the start",
        DATA,
        "never",
        advanced=True,
    )

    aggregator: HostPort = option("where the aggregator listens", NETWORK, metavar="HOST:PORT")
    learner_id: Listing = option(
        "the learner's name; default: the certificate's, else the host's. Several names, with "
        "commas, share this process",
        NETWORK,
        [],
        metavar="ID",
        repeated=True,
    )
    protocol: Literal["native", "flower"] = option(
        "flower: the aggregator is a stock Flower server", NETWORK, "native", advanced=True
    )

    connect_timeout: Seconds = option(
        "how long to try to reach the aggregator, and a data server, at the start",
        WAITING,
        limits.CONNECT_TIMEOUT,
        metavar="SECONDS",
    )
    reconnect_timeout: Seconds = option(
        "how long to try to reconnect after the connection was lost",
        WAITING,
        limits.RECONNECT_TIMEOUT,
        metavar="SECONDS",
    )
    stay: bool = option("wait for the next project when one has ended", WAITING, False)

    threads: Threads = option(
        "threads of numerical libraries; 0: all cores. Give all learners the same number, for "
        "equal results",
        PROCESS,
        1,
        metavar="N",
    )
    log_folder: LocalPath | None = option(
        "where to keep what the user's code prints (ID.log) and the files that it writes (ID/)",
        PROCESS,
        None,
        metavar="FOLDER",
        advanced=True,
    )
    project_id: ProjectId | None = option(
        "name of the training in what --notify tells", RESULTS, None, metavar="NAME", advanced=True
    )
    quiet: bool = option("show only warnings and errors", PROCESS, False)

    @model_validator(mode="after")
    def _safe(self) -> Self:
        if not (self.aggregator.loopback or self.tls_ca or self.insecure):
            raise ValueError(
                f"--aggregator {self.aggregator} is another machine: give --tls-ca, or say "
                "--insecure"
            )
        for name in self.learner_id:
            if not is_name(name):
                raise ValueError(f"--learner-id {sentence(name, 60)!r}: {EXPECTED}")
        if self.protocol == "flower" and len(self.learner_id) > 1:
            raise ValueError("--protocol flower takes one --learner-id a process")
        return self
