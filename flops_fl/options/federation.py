"""Options of commands that have a whole federation: ``simulate`` and ``flower export``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import Field, PositiveInt

from flops_fl.errors import UsageError
from flops_fl.net.address import Address
from flops_fl.options.aggregator import AggregatorOptions
from flops_fl.options.common import RepoOptions
from flops_fl.options.training import TrainingOptions


class FederationOptions(RepoOptions, TrainingOptions):
    """A whole federation: the training, and where each learner's data come from."""

    learners: PositiveInt = Field(description="how many learners")
    data: str = Field(
        "digits",
        description="digits, fashion-mnist, hf:NAME, a Parquet file, a folder; or none, for a "
        "repository that brings its own",
    )
    partition: str = Field("iid", description="iid or dirichlet:ALPHA")
    resize: PositiveInt | None = Field(None, description="make images of the digits N x N")
    threads: int = Field(1, ge=0, description="threads for numerical libraries, a learner")

    def for_aggregator(self) -> AggregatorOptions:
        """The same training, with every learner awaited unless the user said otherwise.

        Raises:
            UsageError: more learners are awaited than there will be.
        """
        given = self.model_fields_set & set(TrainingOptions.model_fields)
        values: dict[str, Any] = {name: getattr(self, name) for name in given}
        if "min_clients" not in values:
            values.setdefault("min_available_clients", self.learners)
        if self.min_available_clients > self.learners:
            raise UsageError(
                f"--min-available-clients {self.min_available_clients} with --learners "
                f"{self.learners}: that many will never come, lower it"
            )
        values["json"] = values.pop("json_", False)
        return AggregatorOptions(repo=self.repo, listen=Address("127.0.0.1", 0), **values)


class SimulateOptions(FederationOptions):
    """Options of ``flops-fl simulate``."""

    processes: PositiveInt | None = Field(
        None, description="processes that host them, default: one a core"
    )


class FlowerExportOptions(FederationOptions):
    """Options of ``flops-fl flower export``."""

    out: Path = Field(description="folder for the Flower app")
