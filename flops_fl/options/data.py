"""Options of ``flops-fl data``, and where a learner's data are."""

from __future__ import annotations

from pathlib import Path

from pydantic import PositiveInt

from flops_fl import limits
from flops_fl.net.address import Address
from flops_fl.net.identity import Role
from flops_fl.options.common import HealthOptions, ListenOptions, Options
from flops_fl.options.described import DATA, LIMITS, NETWORK, option
from flops_fl.options.kinds import HostPort, Listing, LocalPath, Seed, Size
from flops_fl.options.limits import StallLimits

PORT = 11027  # of FLOps' ML data server


class PartitionOptions(Options):
    """Options of ``flops-fl data partition``."""

    source: str = option(
        "what to split: digits, breast-cancer, fashion-mnist, hf:NAME or a Parquet file",
        DATA,
        metavar="SOURCE",
        positional=True,
    )
    parts: PositiveInt = option("number of parts: one for each learner", DATA, metavar="N")
    tag: str = option("data tag, the first part of each file's name", DATA, metavar="TAG")
    out: Path = option("where to write the parts", DATA, metavar="FOLDER")
    partition: str = option(
        "how rows are split: iid, or dirichlet:ALPHA",
        DATA,
        "iid",
        metavar="SCHEME",
        formerly="scheme",
    )
    seed: Seed = option("seed of the shuffle", DATA, 0, metavar="N")
    resize: PositiveInt | None = option("make images N x N", DATA, None, metavar="N")


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


class LocalDataOptions(Options):
    """Where a learner's data are."""

    data: LocalPath | None = option(
        "Parquet or Arrow files to train on: a folder, or one file", DATA, None, metavar="PATH"
    )
    data_tags: Listing = option(
        "only files named TAG.<anything>.parquet; {id} stands for the learner's id",
        DATA,
        [],
        metavar="TAG",
        repeated=True,
    )
