"""What several commands have in common: the repository, TLS, the port for health and metrics."""

from __future__ import annotations

from typing import Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from flops_fl.net.tls import Tls
from flops_fl.options.kinds import ExistingFile, HostPort


class Options(BaseModel):
    """Base of the options of each command."""

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)


class RepoOptions(Options):
    repo: str = Field(
        description="the ML repository: a folder, or a Git URL with an optional @ref",
        json_schema_extra={"positional": True},
    )


class TlsOptions(Options):
    tls_cert: ExistingFile | None = Field(None, description="own certificate, a PEM file")
    tls_key: ExistingFile | None = Field(None, description="its private key, a PEM file")
    tls_ca: ExistingFile | None = Field(
        None, description="certificate of the authority that the other side's must be signed by"
    )
    insecure: bool = Field(False, description="allow addresses beyond loopback without TLS")

    @model_validator(mode="after")
    def _together(self) -> Self:
        if (self.tls_cert is None) != (self.tls_key is None):
            raise ValueError("--tls-cert and --tls-key go together: give both")
        return self

    def tls(self) -> Tls | None:
        """The files' content; None without TLS.

        Raises:
            UsageError: they cannot be read.
        """
        if not (self.tls_cert or self.tls_ca):
            return None
        return Tls.read(self.tls_cert, self.tls_key, self.tls_ca)


class HealthOptions(Options):
    metrics: HostPort | None = Field(
        None, description="HOST:PORT for Prometheus metrics and readiness, default: none"
    )
