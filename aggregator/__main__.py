"""``python -m aggregator REPO --min-clients 3 --rounds 10``."""

from flops_fl.cli import main

if __name__ == "__main__":
    main(module="aggregator")
