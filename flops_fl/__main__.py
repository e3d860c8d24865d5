"""``python -m flops_fl``, the same as the ``flops-fl`` command."""

from flops_fl.cli import main

if __name__ == "__main__":
    main("python -m flops_fl")
