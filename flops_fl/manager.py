"""What the ``main.py`` of an image calls: the actor, started as the FLOps manager does it."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Sequence

from flops_fl.cli import run
from flops_fl.options.manager import from_manager
from flops_fl.process.answer import Answer
from flops_fl.process.main import run_main

log = logging.getLogger(__name__)


def main(role: str, repo: str) -> None:
    """Run the actor `role` of the repository in the folder `repo`.

    The arguments are the FLOps manager's, or else options of ``flops-fl learner`` or ``flops-fl
    aggregator``: none are taken for options, and so are those that begin with one.
    """
    answer = Answer()
    sys.exit(run_main(lambda: _start(role, repo, sys.argv[1:], answer), answer))


def _start(role: str, repo: str, arguments: Sequence[str], answer: Answer) -> int:
    # Some runtimes put the whole command behind the image's own: python main.py python main.py ...
    if list(arguments[:2]) == ["python", "main.py"]:
        arguments = arguments[2:]
    options = list(arguments)
    if options and not options[0].startswith("-"):
        start = from_manager(role, arguments, os.environ)
        for note in start.notes:
            log.warning("%s", note)
        options = start.options
    return run([role, repo, *options], "flops-fl", answer)
