"""Options of ``flops-fl check``."""

from __future__ import annotations

from flops_fl.options.common import RepoOptions
from flops_fl.options.described import PROCESS, RESULTS, TRAINING, WAITING, option
from flops_fl.options.kinds import Seconds, Threads
from flops_fl.options.training import StrategyOptions
from flops_fl.options.use import HandOptions

STEP = 300.0  # seconds; enough to import any framework


class CheckOptions(RepoOptions, HandOptions, StrategyOptions):
    """Options of ``flops-fl check``."""

    strategy: str | None = option(  # type: ignore[assignment]  # it follows from the model
        "the strategy whose config the fit receives; default: FedAvg, or one for a model without "
        "a mean",
        TRAINING,
        None,
        metavar="NAME",
    )
    json_: bool = option("print it as JSON", RESULTS, False, alias="json")
    timeout: Seconds = option(
        "how long the import, a fit or an evaluation may take", WAITING, STEP, metavar="SECONDS"
    )
    threads: Threads = option(
        "threads of numerical libraries; 0: all cores", PROCESS, 1, metavar="N"
    )
