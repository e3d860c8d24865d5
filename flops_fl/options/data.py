"""Options of ``flops-fl data``, and where a learner's data are."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Self

from pydantic import PositiveInt, model_validator

from flops_fl import limits
from flops_fl.net.address import WITH_TLS, Address, DataServer
from flops_fl.net.identity import Role
from flops_fl.options.common import HealthOptions, ListenOptions, TlsOptions
from flops_fl.options.described import DATA, LIMITS, NETWORK, RESULTS, WAITING, option
from flops_fl.options.kinds import (
    HostPort,
    LearnersData,
    Listing,
    LocalPath,
    Picture,
    Seconds,
    Seed,
    Server,
    ServerList,
    Size,
)
from flops_fl.options.limits import StallLimits

PORT = 11027  # of FLOps' ML data server

NO_DATA = "none"
"""The data of a repository that brings its own."""


class DialOptions(TlsOptions):
    """How commands dial data servers."""

    connect_timeout: Seconds = option(
        "how long to try to reach a server", WAITING, limits.CONNECT_TIMEOUT, metavar="SECONDS"
    )

    @property
    def acts_as(self) -> Role:
        """The role that the certificate names, if not another that dials."""
        return "device"

    @property
    def servers(self) -> tuple[DataServer, ...]:
        """The servers to dial."""
        raise NotImplementedError

    @model_validator(mode="after")
    def _safe(self) -> Self:
        for server in self.servers:
            require_safe("--server", server, self.insecure)
        return self


class ServerOptions(DialOptions):
    """One data server."""

    server: Server = option(
        "the data server: grpc://HOST:PORT, grpc+tls://HOST:PORT", NETWORK, metavar="URL"
    )

    @property
    def servers(self) -> tuple[DataServer, ...]:
        """The servers to dial."""
        return (self.server,)


class PartitionOptions(DialOptions):
    """Options of ``flops-fl data partition``."""

    source: str = option(
        "what to split: digits, breast-cancer, fashion-mnist, hf:NAME or a Parquet file",
        DATA,
        metavar="SOURCE",
        positional=True,
    )
    parts: PositiveInt = option("number of parts: one for each learner", DATA, metavar="N")
    tag: str = option("data tag, the first part of each file's name", DATA, metavar="TAG")
    out: Path | None = option("where to write the parts", DATA, None, metavar="FOLDER")
    server: ServerList = option(
        "instead of --out: where to put part I, under the tag TAG.I; several servers take turns",
        DATA,
        [],
        metavar="URL",
        repeated=True,
    )
    partition: str = option(
        "how rows are split: iid, linear, dirichlet:ALPHA, shards:K, column:NAME",
        DATA,
        "iid",
        metavar="SCHEME",
        formerly="scheme",
    )
    label: str = option(
        "the column of classes, for dirichlet and shards, and for the table of the split",
        DATA,
        "label",
        metavar="COLUMN",
    )
    seed: Seed = option("seed of the shuffle", DATA, 0, metavar="N")
    resize: PositiveInt | None = option("make images N x N", DATA, None, metavar="N")
    picture: Picture | None = option(
        "where to draw how the labels are split: a .png or .svg", RESULTS, None, metavar="FILE"
    )

    def cut(self) -> dict[str, Any]:
        """How the source is cut, as arguments."""
        same = {name: getattr(self, name) for name in ("seed", "label", "resize", "picture")}
        return {"scheme": self.partition, **same}

    @property
    def servers(self) -> tuple[DataServer, ...]:
        """The servers to dial."""
        return tuple(self.server)

    @model_validator(mode="after")
    def _one_place(self) -> Self:
        if (self.out is None) == (not self.server):
            raise ValueError("where shall the parts go? give one of --out and --server")
        return self


class DataServeOptions(ListenOptions, HealthOptions, StallLimits):
    """Options of ``flops-fl data serve``."""

    dir_: LocalPath = option(
        "where the data are: a Parquet file for each flight", DATA, metavar="DIR", alias="dir"
    )
    quota: Size | None = option(
        "bytes that all data together may have; default: what the disk has",
        DATA,
        None,
        metavar="SIZE",
    )
    listen: HostPort = option(
        "where to listen for devices and learners",
        NETWORK,
        Address("127.0.0.1", PORT),
        metavar="HOST:PORT",
    )
    max_message: Size = option(
        "largest batch that is accepted", LIMITS, limits.MAX_BATCH, metavar="SIZE", advanced=True
    )

    @property
    def acts_as(self) -> Role:
        """The role that the server's certificate must name."""
        return "data"

    @property
    def here(self) -> str:
        """Where the options are given, for messages."""
        return "on a data server"


class PutOptions(ServerOptions):
    """Options of ``flops-fl data put``."""

    source: str = option(
        "a Parquet file, or what data partition takes", DATA, metavar="SOURCE", positional=True
    )
    tag: str = option("data tag, by which learners find it", DATA, metavar="TAG")


class _Reading(ServerOptions):
    @property
    def acts_as(self) -> Role:
        """A learner's certificate is enough to read."""
        return "learner"


class ListOptions(_Reading):
    """Options of ``flops-fl data ls``."""

    tag: Listing = option("only data with this tag", DATA, [], metavar="TAG", repeated=True)
    json_: bool = option("print it as JSON", RESULTS, False, alias="json")


class DropOptions(ServerOptions):
    """Options of ``flops-fl data rm``."""

    name: str = option(
        "the name of data, as data ls has it, or a tag", DATA, metavar="NAME", positional=True
    )


class ShowOptions(DropOptions, _Reading):
    """Options of ``flops-fl data show``."""

    label: str = option("the column whose values are counted", DATA, "label", metavar="COLUMN")
    picture: Picture | None = option(
        "where to draw how often each value occurs: a .png or .svg", RESULTS, None, metavar="FILE"
    )
    json_: bool = option("print it as JSON", RESULTS, False, alias="json")


class DataOptions(TlsOptions):
    """Where a learner's data are."""

    data: LearnersData | None = option(
        "Parquet or Arrow files: a folder, or one file; or data servers: grpc://HOST:PORT, "
        "grpc+tls://HOST:PORT, several with commas",
        DATA,
        None,
        metavar="PATH",
    )
    data_tags: Listing = option(
        "only files named TAG.<anything>.parquet; {id} stands for the learner's id",
        DATA,
        [],
        metavar="TAG",
        repeated=True,
    )
    data_cache: LocalPath | None = option(
        "where large data from a server are kept for the next start; default: flops-fl in the "
        "user's cache folder",
        DATA,
        None,
        metavar="FOLDER",
        advanced=True,
    )
    connect_timeout: Seconds = option(
        "how long to try to reach a data server",
        WAITING,
        limits.CONNECT_TIMEOUT,
        metavar="SECONDS",
        advanced=True,
    )

    @model_validator(mode="after")
    def _safe_servers(self) -> Self:
        for server in self.data if isinstance(self.data, tuple) else ():
            require_safe("--data", server, self.insecure)
        return self

    def told(self) -> dict[str, Any]:
        """These options as values of JSON, from which another process can `build` them."""
        found = {name: getattr(self, name) for name in DataOptions.model_fields}
        servers = self.data if isinstance(self.data, tuple) else ()
        found["data"] = ",".join(map(str, servers)) or self.data
        return {name: str(v) if isinstance(v, Path) else v for name, v in found.items() if v}


def require_safe(flag: str, server: DataServer, insecure: bool) -> None:
    """Check that a server of another machine is dialled with TLS.

    Raises:
        ValueError: it is not, and `insecure` does not allow that.
    """
    if not (server.tls or server.address.loopback or insecure):
        raise ValueError(
            f"{flag} {server} is another machine: give {WITH_TLS}://{server.address}, or say "
            "--insecure"
        )
