"""Options of ``flops-fl project render``."""

from __future__ import annotations

import re
from typing import Annotated, Literal, TypeAlias

from pydantic import AfterValidator

from flops_fl import limits
from flops_fl.options.described import (
    CLUSTERS,
    DATA,
    LEARNERS,
    LIMITS,
    NETWORK,
    PROCESS,
    RESULTS,
    option,
)
from flops_fl.options.kinds import Awaited, LocalPath, Seconds
from flops_fl.options.project import SlaOptions

_REGISTRY = re.compile(r"[a-z0-9.-]+(:\d+)?(/[a-z0-9._-]+)*/?")


def _registry(text: str) -> str:
    if not _REGISTRY.fullmatch(text):
        raise ValueError("expected a host, such as registry.example.org:5000, without https://")
    return text.rstrip("/")


Target: TypeAlias = Literal["compose", "kubernetes", "oakestra"]


class RenderOptions(SlaOptions):
    """Options of ``flops-fl project render``."""

    for_: Target = option("the orchestrator that is to start it", PROCESS, alias="for")
    out: LocalPath = option("the folder for the files", RESULTS, metavar="DIR")
    data: Literal["servers", "none"] = option(
        "servers: a data server for each learner; none: the repository brings its own data",
        DATA,
        "servers",
    )
    registry: Annotated[str, AfterValidator(_registry)] | None = option(
        "where the images are, as flops-fl image --push has it; default: on the machines",
        NETWORK,
        None,
        metavar="REGISTRY",
    )
    learners: Awaited | None = option(
        "how many learners, in each cluster if there are any; default: min_available_clients",
        LEARNERS,
        None,
        metavar="N",
    )
    clusters: Awaited | None = option(
        "how many clusters, if the mode is hierarchical; default: 2", CLUSTERS, None, metavar="N"
    )
    insecure: bool = option("do without certificates and TLS", NETWORK, False)
    clone_timeout: Seconds = option(
        "how long Git may take to fetch the repository",
        LIMITS,
        limits.CLONE_TIMEOUT,
        metavar="SECONDS",
    )
