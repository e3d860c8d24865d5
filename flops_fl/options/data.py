"""Options of ``flops-fl data``, and where a learner's data are."""

from __future__ import annotations

from pathlib import Path

from pydantic import PositiveInt

from flops_fl.options.common import Options
from flops_fl.options.described import DATA, option
from flops_fl.options.kinds import Listing, LocalPath, Seed


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
