"""``python -m learner REPO --aggregator HOST:PORT --data FOLDER``."""

from __future__ import annotations

import sys

from flops_fl.config import LearnerOptions
from flops_fl.errors import run_main
from flops_fl.options import parse

DESCRIPTION = "Train the model of an ML repository on local data, for an aggregator."


def main() -> int:
    """Run a learner; its exit code."""
    options = parse(LearnerOptions, "python -m learner", DESCRIPTION)
    from flops_fl.threads import limit_threads

    limit_threads(options.threads)  # before NumPy is imported

    from flops_fl.engines.learn import learn

    return learn(options)


if __name__ == "__main__":
    sys.exit(run_main(main))
