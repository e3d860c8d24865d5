"""Options of commands that have a whole federation: ``simulate`` and ``flower export``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import PositiveInt

from flops_fl.errors import UsageError
from flops_fl.net.address import Address
from flops_fl.options.aggregator import AggregatorOptions
from flops_fl.options.common import RepoOptions
from flops_fl.options.described import DATA, LEARNERS, PROCESS, RESULTS, TRAINING, option
from flops_fl.options.kinds import Threads
from flops_fl.options.limits import CommonLimits, HubLimits, PrintLimits
from flops_fl.options.training import TrainingOptions


class FederationOptions(RepoOptions, TrainingOptions, CommonLimits):
    """A whole federation: the training, and where each learner's data come from."""

    learners: PositiveInt = option("how many there are", TRAINING, metavar="N")
    data: str = option(
        "digits, breast-cancer, fashion-mnist, hf:NAME, a file, a folder; none: the repo's own",
        DATA,
        "digits",
        metavar="SOURCE",
    )
    min_available_clients: PositiveInt = option(
        "learners that must be present before a round starts",
        LEARNERS,
        1,
        shown="--learners",
        metavar="N",
        advanced=True,
    )
    partition: str = option("iid, or dirichlet:ALPHA", DATA, "iid", metavar="SCHEME")
    resize: PositiveInt | None = option("make images N x N", DATA, None, metavar="N")
    threads: Threads = option("of numerical libraries; 0 for all cores", PROCESS, 1, metavar="N")

    @property
    def awaited(self) -> int:
        """All learners, unless the user said otherwise."""
        said = "min_available_clients" in self.model_fields_set
        return self.min_available_clients if said else self.learners

    def for_aggregator(self) -> AggregatorOptions:
        """The same training, with every learner awaited unless the user said otherwise.

        Raises:
            UsageError: more learners are awaited than there will be.
        """
        given = self.model_fields_set & set(AggregatorOptions.model_fields)
        values: dict[str, Any] = {name: getattr(self, name) for name in given - {"repo"}}
        values["min_available_clients"] = self.awaited
        if self.awaited > self.learners:
            raise UsageError(
                f"--min-available-clients {self.awaited} with --learners {self.learners}: that "
                "many will never come, lower it"
            )
        values["json"] = values.pop("json_", False)
        return AggregatorOptions(repo=self.repo, listen=Address("127.0.0.1", 0), **values)


class SimulateOptions(FederationOptions, HubLimits, PrintLimits):
    """Options of ``flops-fl simulate``."""

    processes: PositiveInt | None = option(
        "that host the learners; default: one a core", PROCESS, None, metavar="N"
    )


class FlowerExportOptions(FederationOptions):
    """Options of ``flops-fl flower export``."""

    out: Path = option("for the Flower app", RESULTS, metavar="FOLDER")
