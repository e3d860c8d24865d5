"""The process of a trial: ``python -m flops_fl.check.inside ORDER`` runs a repository's code.

It is a process of its own, since user code may crash, hang or call `os._exit`.
"""

from __future__ import annotations

import json
import logging
import signal
import sys

from flops_fl.check.report import Order, Report
from flops_fl.errors import FlopsError
from flops_fl.process.libraries import prepare_libraries
from flops_fl.process.lines import OURS, speak
from flops_fl.process.signals import end_with_parent


def main() -> None:
    """Do what the order in the first argument says, and end the process."""
    parent, order = int(sys.argv[1]), Order(**json.loads(sys.argv[2]))
    end_with_parent(parent)
    prepare_libraries(threads=0)  # the parent has put their number into the environment
    speak()
    logging.getLogger(OURS).setLevel(logging.WARNING)
    signal.signal(signal.SIGINT, lambda *_: None)  # so that a KeyboardInterrupt is user code's own
    report = Report(order)
    report.step("import")
    try:
        if order.kind == "built":
            from flops_fl.check.built import try_built

            try_built(order, report)
        else:
            from flops_fl.check.trained import try_trained

            try_trained(order, report)
    except FlopsError as error:
        report.fault(error)
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    report.end()


if __name__ == "__main__":
    main()
