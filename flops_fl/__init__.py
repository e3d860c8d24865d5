"""flops-fl: federated learning of plain ML repositories, on Flower."""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("flops-fl")
except PackageNotFoundError:  # an unpacked source tree that was never installed
    __version__ = "0+unknown"
