"""Options of ``flops-fl plan``."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, PositiveInt, model_validator

from flops_fl.options.common import Options, require_learners
from flops_fl.options.described import CLUSTERS, NETWORK, RESULTS, TRAINING, option
from flops_fl.options.kinds import Rate, Size


class PlanOptions(Options):
    """Options of ``flops-fl plan``: what a planned federation will have."""

    learners: PositiveInt = option("number of learners", TRAINING, metavar="N")
    model_bytes: Size = option("size of the model's parameters", TRAINING, metavar="SIZE")
    fit: Annotated[float, Field(ge=0.0, allow_inf_nan=False)] = option(
        "seconds that a learner's fit and evaluation take together",
        TRAINING,
        0.0,
        metavar="SECONDS",
    )

    clusters: PositiveInt | None = option(
        "clusters directly below the root; default: the number that gives every aggregator equally "
        "many children",
        CLUSTERS,
        None,
        metavar="N",
    )
    cluster_rounds: PositiveInt = option(
        "rounds that a cluster trains in each round above it", CLUSTERS, 1, metavar="N"
    )

    uplink: Rate = option("upload rate of each learner, such as 20Mbit", NETWORK, metavar="RATE")
    downlink: Rate = option("download rate of each learner", NETWORK, metavar="RATE")
    aggregator_uplink: Rate | None = option(
        "upload rate of the root and each cluster; default: a learner's",
        NETWORK,
        None,
        metavar="RATE",
    )
    aggregator_downlink: Rate | None = option(
        "download rate of the root and each cluster; default: a learner's",
        NETWORK,
        None,
        metavar="RATE",
    )

    json_: bool = option("print it as JSON", RESULTS, False, alias="json")

    @model_validator(mode="after")
    def _none_empty(self) -> Self:
        require_learners(self.clusters, self.learners)
        return self
