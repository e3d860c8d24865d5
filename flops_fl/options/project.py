"""Options of ``flops-fl project``: what a project's file does not say."""

from __future__ import annotations

from typing import Annotated, Any, Self

from pydantic import BeforeValidator, PositiveInt, model_validator

from flops_fl.net.address import Address
from flops_fl.options.common import Options
from flops_fl.options.described import DATA, LEARNERS, NETWORK, PROCESS, RESULTS, TRAINING, option
from flops_fl.options.kinds import Fraction, Hosted, HostPort, LocalPath, Threads
from flops_fl.options.limits import CommonLimits, HubLimits, PrintLimits
from flops_fl.options.notices import NoticeOptions
from flops_fl.options.training import RunningOptions


def _each(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


Places = Annotated[list[str], BeforeValidator(_each)]


class SlaOptions(Options):
    """The file that describes a project."""

    sla: LocalPath = option(
        "the project's file, JSON or YAML", PROCESS, metavar="SLA", positional=True
    )


class ProjectRunOptions(
    SlaOptions, RunningOptions, NoticeOptions, HubLimits, PrintLimits, CommonLimits
):
    """Options of ``flops-fl project run``."""

    data: Places = option(
        "a learner's data: a folder (or a folder of these) or grpc://HOST:PORT, may be repeated; "
        "TAG=SOURCE, split among all; none: the repository's",
        DATA,
        [],
        metavar="PLACE",
        repeated=True,
    )
    partition: str = option(
        "how TAG=SOURCE is split, as by simulate",
        DATA,
        "iid",
        metavar="SCHEME",
    )
    resize: PositiveInt | None = option(
        "make images of TAG=SOURCE N x N", DATA, None, metavar="N", advanced=True
    )
    learners: Hosted | None = option(
        "learners, of each cluster; default: one for each --data, at least min_available_clients",
        TRAINING,
        None,
        metavar="N",
    )
    clusters: Hosted | None = option(
        "clusters, if the mode is hierarchical; default: 2", TRAINING, None, metavar="N"
    )
    fraction_fit: Fraction = option(
        "share of learners that trains in a round", LEARNERS, 1.0, metavar="SHARE", advanced=True
    )
    processes: PositiveInt | None = option(
        "number of processes; default: one for each core", PROCESS, None, metavar="N", advanced=True
    )
    threads: Threads = option(
        "threads of numerical libraries; 0: all cores", PROCESS, 1, metavar="N"
    )
    metrics: HostPort | None = option(
        "where to serve metrics and a page to watch",
        PROCESS,
        None,
        metavar="HOST:PORT",
        advanced=True,
    )
    base: str = option(
        "the image on which that of the model is built, at a registry or in an OCI layout",
        PROCESS,
        "",
        metavar="IMAGE",
        shown="as flops-fl image has it",
        advanced=True,
    )
    cpu: bool = option(
        "torch's wheels without CUDA in the image of the model", PROCESS, False, advanced=True
    )
    push: str | None = option(
        "a registry to push the image of the model to",
        NETWORK,
        None,
        metavar="REGISTRY",
        advanced=True,
    )
    insecure: bool = option(
        "allow data servers of other machines, and serve other machines, without TLS",
        NETWORK,
        False,
        advanced=True,
    )
    serve: HostPort = option(
        "where to serve the model at the end",
        NETWORK,
        Address("127.0.0.1", 5001),
        metavar="HOST:PORT",
    )

    @model_validator(mode="after")
    def _not_open_to_all(self) -> Self:
        if not (self.serve.loopback or self.insecure):
            raise ValueError(
                f"--serve {self.serve} can be reached from other machines: say --insecure, or "
                "serve the model with flops-fl serve, which takes certificates"
            )
        return self


class ProjectPlanOptions(ProjectRunOptions):
    """Options of ``flops-fl project plan``."""

    listen: HostPort = option(
        "where the aggregator listens",
        NETWORK,
        Address("127.0.0.1", 8080),
        metavar="HOST:PORT",
    )
    json_: bool = option("print the plan as JSON", RESULTS, False, alias="json")
