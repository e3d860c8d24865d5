"""Options of ``flops-fl data``."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field, PositiveInt

from flops_fl.options.common import Options


class PartitionOptions(Options):
    """Options of ``flops-fl data partition``."""

    source: str = Field(
        description="digits, fashion-mnist, hf:NAME or a Parquet file",
        json_schema_extra={"positional": True},
    )
    parts: PositiveInt = Field(description="how many parts, one for each learner")
    tag: str = Field(description="data tag, the first part of each file's name")
    out: Path = Field(description="folder for the parts")
    scheme: str = Field("iid", description="iid or dirichlet:ALPHA")
    seed: int = Field(0, ge=0, lt=2**63, description="of the shuffle")
    resize: PositiveInt | None = Field(None, description="make images of the digits N x N")
