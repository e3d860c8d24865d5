"""Options of commands that have a whole federation: ``simulate`` and ``flower export``."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Self

from pydantic import PositiveInt, model_validator

from flops_fl.errors import UsageError
from flops_fl.net.address import Address
from flops_fl.options.aggregator import AggregatorOptions
from flops_fl.options.common import RepoOptions, require_learners
from flops_fl.options.described import CLUSTERS, DATA, LEARNERS, PROCESS, RESULTS, TRAINING, option
from flops_fl.options.kinds import Awaited, Hosted, HostPort, Rounds, Threads
from flops_fl.options.limits import CommonLimits, HubLimits, PrintLimits
from flops_fl.options.notices import NoticeOptions
from flops_fl.options.training import TrainingOptions


class FederationOptions(RepoOptions, TrainingOptions, CommonLimits):
    """A whole federation: the training, and where each learner's data come from."""

    learners: Hosted = option("number of learners", TRAINING, metavar="N")
    data: str = option(
        "digits, breast-cancer, fashion-mnist, hf:NAME, a file, a folder; none: the repo's own",
        DATA,
        "digits",
        metavar="SOURCE",
    )
    min_available_clients: Awaited = option(
        "learners that must be present before a round starts",
        LEARNERS,
        1,
        shown="--learners",
        metavar="N",
        advanced=True,
    )
    partition: str = option(
        "how rows are split: iid, linear, dirichlet:ALPHA, shards:K, column:NAME",
        DATA,
        "iid",
        metavar="SCHEME",
    )
    resize: PositiveInt | None = option("make images N x N", DATA, None, metavar="N", advanced=True)
    threads: Threads = option(
        "threads of numerical libraries; 0: all cores", PROCESS, 1, metavar="N"
    )

    @property
    def present(self) -> int:
        """How many will join the aggregator."""
        return self.learners

    @property
    def awaited(self) -> int:
        """All learners, unless the user said otherwise."""
        said = "min_available_clients" in self.model_fields_set
        return self.min_available_clients if said else self.present

    def for_aggregator(self) -> AggregatorOptions:
        """The same training, with every learner awaited unless the user said otherwise.

        Raises:
            UsageError: more learners are awaited than there will be.
        """
        given = self.model_fields_set & set(AggregatorOptions.model_fields)
        fields = AggregatorOptions.model_fields
        values: dict[str, Any] = {
            fields[name].alias or name: getattr(self, name) for name in given - {"repo"}
        }
        values["min_available_clients"] = self.awaited
        if self.awaited > self.present:
            raise UsageError(
                f"--min-available-clients {self.awaited} with {self.present} "
                f"{'clusters' if self.present < self.learners else 'learners'}: that many will "
                "never come, lower it"
            )
        return AggregatorOptions(repo=self.repo, listen=Address("127.0.0.1", 0), **values)


class SimulateOptions(FederationOptions, NoticeOptions, HubLimits, PrintLimits):
    """Options of ``flops-fl simulate``."""

    clusters: Hosted | None = option(
        "number of clusters between learners and the root",
        TRAINING,
        None,
        metavar="N",
    )
    cluster_rounds: Rounds = option(
        "rounds that a cluster trains in each round of the root",
        CLUSTERS,
        1,
        metavar="N",
        advanced=True,
    )

    processes: PositiveInt | None = option(
        "number of processes; default: one for each core", PROCESS, None, metavar="N"
    )
    metrics: HostPort | None = option(
        "where to serve metrics and a page to watch",
        PROCESS,
        None,
        metavar="HOST:PORT",
        advanced=True,
    )

    @property
    def present(self) -> int:
        """How many will join the root: learners, or clusters of them."""
        return self.clusters or self.learners

    def for_aggregator(self) -> AggregatorOptions:
        """The root's options; see `FederationOptions`."""
        role = "root" if self.clusters else "classic"
        return super().for_aggregator().model_copy(update={"role": role})

    @model_validator(mode="after")
    def _none_empty(self) -> Self:
        require_learners(self.clusters, self.learners)
        if self.clusters is None and "cluster_rounds" in self.model_fields_set:
            raise ValueError("--cluster-rounds needs --clusters: give both, or neither")
        return self


class FlowerExportOptions(FederationOptions):
    """Options of ``flops-fl flower export``."""

    out: Path = option("where to write the Flower app", RESULTS, metavar="FOLDER")
    output: Path | None = option(  # not made absolute: it is a folder of another machine
        "where results go, below the SuperLink's folder; default: runs/PROJECT-ID, ...-2",
        RESULTS,
        None,
        metavar="FOLDER",
    )
