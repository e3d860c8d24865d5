"""Options of ``python -m aggregator``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, Self

from pydantic import model_validator

from flops_fl import limits
from flops_fl.net.address import Address
from flops_fl.net.identity import Role
from flops_fl.options.common import HealthOptions, ListenOptions, RepoOptions
from flops_fl.options.described import CLUSTERS, NETWORK, flag, option
from flops_fl.options.kinds import HostPort, Seconds
from flops_fl.options.limits import CommonLimits, HubLimits, LineLimits
from flops_fl.options.notices import NoticeOptions
from flops_fl.options.training import TrainingOptions

_AS_OF_LEARNERS = ("learner_id", "connect_timeout", "stay", *LineLimits.__annotations__)
_BAGGING = "FedXgbBagging"
_OF_CLUSTERS = ("root", "root_timeout", *_AS_OF_LEARNERS)


class AggregatorOptions(
    RepoOptions,
    TrainingOptions,
    NoticeOptions,
    ListenOptions,
    HealthOptions,
    HubLimits,
    LineLimits,
    CommonLimits,
):
    """Options of ``python -m aggregator``."""

    role: Literal["classic", "root", "cluster"] = option(
        "cluster: be one learner of --root; --rounds then counts the rounds of each cycle",
        CLUSTERS,
        "classic",
        advanced=True,
    )
    root: HostPort | None = option(
        "where the root aggregator listens",
        CLUSTERS,
        None,
        metavar="HOST:PORT",
        advanced=True,
    )
    learner_id: str | None = option(
        "the cluster's name; default: the certificate's, else the host's",
        CLUSTERS,
        None,
        metavar="ID",
        advanced=True,
    )
    connect_timeout: Seconds = option(
        "how long to try to reach the root at the start",
        CLUSTERS,
        limits.CONNECT_TIMEOUT,
        metavar="SECONDS",
        advanced=True,
    )
    root_timeout: Seconds = option(
        "how long to try to reconnect to the root after the connection was lost",
        CLUSTERS,
        limits.RECONNECT_TIMEOUT,
        metavar="SECONDS",
        advanced=True,
    )
    stay: bool = option(
        "wait for the root's next project when one has ended", CLUSTERS, False, advanced=True
    )

    listen: HostPort = option(
        "where to listen for learners", NETWORK, Address("127.0.0.1", 8080), metavar="HOST:PORT"
    )

    no_flower_clients: bool = option(
        "refuse stock Flower clients: the limit of a message is then 2 MiB, not the model's size",
        NETWORK,
        False,
        advanced=True,
    )

    @classmethod
    def meant(cls, environment: dict[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
        """The environment without the options of learners, unless this is a cluster."""
        environment = super().meant(environment, given)
        if (environment | dict(given)).get("role") == "cluster":
            return environment
        return {name: value for name, value in environment.items() if name not in _AS_OF_LEARNERS}

    @property
    def acts_as(self) -> Role:
        """The role that the actor's certificate must name."""
        return "cluster" if self.is_cluster else "aggregator"

    @property
    def is_cluster(self) -> bool:
        """Whether this aggregator is a learner of another one."""
        return self.role == "cluster"

    @property
    def tracks(self) -> bool:
        """Whether MLflow records the run: on a cluster only if --tracking-uri was given."""
        return not self.no_tracking and (not self.is_cluster or self.tracking_uri is not None)

    @model_validator(mode="after")
    def _in_its_role(self) -> Self:
        if not self.is_cluster:
            for name in _OF_CLUSTERS:
                if name in self.model_fields_set:
                    raise ValueError(f"{flag(name)} is for --role cluster: give that, or leave it")
            return self
        if self.root is None:
            raise ValueError("--role cluster needs --root HOST:PORT: where the root listens")
        if "seed" in self.model_fields_set:
            raise ValueError("--seed is the root's: leave it out with --role cluster")
        if self.strategy == _BAGGING:
            raise ValueError(
                f"--strategy {_BAGGING} is for a root whose learners are no clusters: a cluster's "
                "forest holds the root's trees, which would join it twice. Choose FedXgbCyclic"
            )
        if not (self.root.loopback or self.tls_ca or self.insecure):
            raise ValueError(
                f"--root {self.root} is another machine: give --tls-ca, or say --insecure"
            )
        return self
