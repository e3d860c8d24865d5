"""Options of ``python -m aggregator``."""

from __future__ import annotations

from typing import ClassVar, Self

from pydantic import model_validator

from flops_fl.net.address import Address
from flops_fl.net.identity import Role
from flops_fl.options.common import HealthOptions, RepoOptions, TlsOptions
from flops_fl.options.described import NETWORK, option
from flops_fl.options.kinds import HostPort
from flops_fl.options.limits import CommonLimits, HubLimits
from flops_fl.options.training import TrainingOptions


class AggregatorOptions(
    RepoOptions, TrainingOptions, TlsOptions, HealthOptions, HubLimits, CommonLimits
):
    """Options of ``python -m aggregator``."""

    acts_as: ClassVar[Role] = "aggregator"

    listen: HostPort = option(
        "serve there", NETWORK, Address("127.0.0.1", 8080), metavar="HOST:PORT"
    )

    no_flower_clients: bool = option(
        "let no stock Flower clients in: messages are then bounded by 2 MiB, not by the model",
        NETWORK,
        False,
        advanced=True,
    )

    @model_validator(mode="after")
    def _safe(self) -> Self:
        if not (self.listen.loopback or self.tls_cert or self.insecure):
            raise ValueError(
                f"--listen {self.listen} can be reached from other machines: give --tls-cert and "
                "--tls-key, or say --insecure"
            )
        if self.tls_ca and not self.tls_cert:
            raise ValueError("--tls-ca needs --tls-cert and --tls-key on an aggregator: give them")
        return self
