"""``python -m aggregator REPO --min-clients 3 --rounds 10``."""

from __future__ import annotations

import sys

from flops_fl.process.main import run_main
from flops_fl.process.signals import ending_at_once

DESCRIPTION = "Lead the federated training of an ML repository's model."


def main() -> int:
    """Run an aggregator; returns the exit code."""
    with ending_at_once():
        from flops_fl.options.aggregator import AggregatorOptions
        from flops_fl.options.reading import parse
        from flops_fl.process.libraries import prepare_libraries

        options = parse(AggregatorOptions, "python -m aggregator", DESCRIPTION)
        prepare_libraries(threads=1)  # norms are sums of floats, whose bits depend on threads

        from flops_fl.actors.aggregator import aggregate

    return aggregate(options)


if __name__ == "__main__":
    sys.exit(run_main(main))
