"""What several commands have in common: the repository, TLS, the port for health and metrics."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict, model_validator

from flops_fl.net.address import Address
from flops_fl.net.identity import Role
from flops_fl.net.tls import Tls
from flops_fl.options.described import NETWORK, PROCESS, option
from flops_fl.options.kinds import ExistingFile, HostPort

TRUE = ("1", "t", "true", "y", "yes", "on")  # as pydantic reads a switch


class Options(BaseModel):
    """Base of the options of each command."""

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)
    rest: ClassVar[str] = ""
    """What the usage line shows after ``--``; empty if the command takes nothing there."""

    @classmethod
    def meant(cls, environment: dict[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
        """The environment's values that are for this command; `given` is the command line's."""
        return environment


class RepoOptions(Options):
    repo: str = option(
        "a folder, or a Git URL with an optional @ref",
        PROCESS,
        metavar="REPO",
        positional=True,
    )


class TlsOptions(Options):
    tls_cert: ExistingFile | None = option(
        "this process's own certificate, PEM", NETWORK, None, metavar="FILE"
    )
    tls_key: ExistingFile | None = option(
        "private key of --tls-cert, PEM", NETWORK, None, metavar="FILE"
    )
    tls_ca: ExistingFile | None = option(
        "authority of the other side's certificate, PEM",
        NETWORK,
        None,
        metavar="FILE",
    )
    insecure: bool = option("allow other machines without TLS", NETWORK, False)

    @model_validator(mode="after")
    def _together(self) -> Self:
        if (self.tls_cert is None) != (self.tls_key is None):
            raise ValueError("--tls-cert and --tls-key go together: give both")
        return self

    @property
    def acts_as(self) -> Role:
        """The role that the actor's certificate must name."""
        return "learner"

    def tls(self) -> Tls | None:
        """The files' content; None without TLS.

        Raises:
            UsageError, Refused: a file cannot be used.
        """
        if not (self.tls_cert or self.tls_ca):
            return None
        return Tls.read(self.tls_cert, self.tls_key, self.tls_ca, self.acts_as)


class ListenOptions(TlsOptions):
    """TLS of a process that listens; its class has the option ``--listen``."""

    @model_validator(mode="after")
    def _not_open_to_all(self) -> Self:
        listen: Address = self.listen  # type: ignore[attr-defined]
        if not (listen.loopback or self.tls_cert or self.insecure):
            raise ValueError(
                f"--listen {listen} can be reached from other machines: give --tls-cert and "
                "--tls-key, or say --insecure"
            )
        if self.tls_ca and not self.tls_cert:
            raise ValueError(f"--tls-ca needs --tls-cert and --tls-key {self.here}: give them")
        return self

    @property
    def here(self) -> str:
        """Where the options are given, for messages."""
        return "on an aggregator"


class HealthOptions(Options):
    metrics: HostPort | None = option(
        "where to serve metrics, readiness and, on an aggregator, a page to watch",
        PROCESS,
        None,
        metavar="HOST:PORT",
    )


def require_learners(clusters: int | None, learners: int) -> None:
    """Check that no cluster is empty.

    Raises:
        ValueError: there are more clusters than learners.
    """
    if clusters and clusters > learners:
        raise ValueError(
            f"--clusters {clusters} with --learners {learners}: each cluster needs a learner, "
            "lower it"
        )
