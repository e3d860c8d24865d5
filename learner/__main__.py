"""``python -m learner REPO --aggregator HOST:PORT --data FOLDER``."""

from flops_fl.cli import main

if __name__ == "__main__":
    main(module="learner")
