"""``python -m learner REPO --aggregator HOST:PORT --data FOLDER``."""

from __future__ import annotations

import sys

from flops_fl.process.main import run_main
from flops_fl.process.signals import ending_at_once

DESCRIPTION = "Train the model of an ML repository on local data, for an aggregator."


def main() -> int:
    """Run a learner; returns the exit code."""
    with ending_at_once():
        from flops_fl.options.learner import LearnerOptions
        from flops_fl.options.reading import parse
        from flops_fl.process.libraries import prepare_libraries

        options = parse(LearnerOptions, "python -m learner", DESCRIPTION)
        prepare_libraries(options.threads)

        from flops_fl.actors.learner import learn

    return learn(options)


if __name__ == "__main__":
    sys.exit(run_main(main))
