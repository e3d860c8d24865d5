"""Options of ``flops-fl init``."""

from __future__ import annotations

from typing import Literal, TypeAlias

from flops_fl.options.common import Options
from flops_fl.options.described import DATA, PROCESS, option
from flops_fl.options.kinds import LocalPath

Framework: TypeAlias = Literal["sklearn", "pytorch", "keras", "numpy"]


class InitRepoOptions(Options):
    """Options of ``flops-fl init``."""

    name: LocalPath = option(
        "the new repository's folder", PROCESS, metavar="NAME", positional=True
    )
    framework: Framework = option("what the model is written in", PROCESS)
    data: LocalPath | None = option(
        "a Parquet or Arrow file, or a folder of such: the model is made for its columns; "
        "default: for the images that flops-fl calls digits",
        DATA,
        None,
        metavar="PATH",
    )
    label: str | None = option(
        "the column to predict; default: the one that looks like it", DATA, None, metavar="COLUMN"
    )
