"""Options of ``flops-fl check``."""

from __future__ import annotations

from flops_fl.options.common import RepoOptions
from flops_fl.options.described import PROCESS, RESULTS, WAITING, option
from flops_fl.options.kinds import Seconds, Threads
from flops_fl.options.use import HandOptions

STEP = 300.0  # seconds; enough to import any framework


class CheckOptions(RepoOptions, HandOptions):
    """Options of ``flops-fl check``."""

    json_: bool = option("print it as JSON", RESULTS, False, alias="json")
    timeout: Seconds = option(
        "how long the import, a fit or an evaluation may take", WAITING, STEP, metavar="SECONDS"
    )
    threads: Threads = option(
        "threads of numerical libraries; 0: all cores", PROCESS, 1, metavar="N"
    )
