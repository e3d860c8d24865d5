"""The process of a trial: ``python -m flops_fl.check.inside ORDER`` runs a repository's code.

It is a process of its own, since user code may crash, hang or call `os._exit`.
"""

from __future__ import annotations

import json
import logging
import signal
import sys
from collections.abc import Callable
from typing import NoReturn

from flops_fl.check.report import Order, Report
from flops_fl.errors import FlopsError
from flops_fl.process.libraries import prepare_libraries
from flops_fl.process.lines import OURS, speak
from flops_fl.process.signals import end_with_parent


def main() -> None:
    """Try to build a repository's model, or to train it, as the order says."""
    work(_try)


def _try(order: Order, report: Report) -> None:
    if order.kind == "built":
        from flops_fl.check.built import try_built

        try_built(order, report)
    else:
        from flops_fl.check.trained import try_trained

        try_trained(order, report)


def work(trial: Callable[[Order, Report], None]) -> NoReturn:
    """Run a trial on the order in the second argument, and end the process.

    The first argument is the process that waits for it.
    """
    parent, order = int(sys.argv[1]), Order(**json.loads(sys.argv[2]))
    end_with_parent(parent)
    prepare_libraries(threads=0)  # the parent has put their number into the environment
    speak()
    logging.getLogger(OURS).setLevel(logging.WARNING)
    signal.signal(signal.SIGINT, lambda *_: None)  # so that a KeyboardInterrupt is user code's own
    report = Report(order)
    report.step("import")
    try:
        trial(order, report)
    except FlopsError as error:
        report.fault(error)
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    report.end()


if __name__ == "__main__":
    main()
