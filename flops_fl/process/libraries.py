"""What libraries take from the environment when they are imported. Imports none of them.

The sum of floats depends on how it is split among threads: the same number everywhere keeps
results the same everywhere.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

_THREADS = (
    "OMP_NUM_THREADS",  # PyTorch, scikit-learn, XGBoost, LightGBM
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",  # NumPy on macOS
    "TF_NUM_INTRAOP_THREADS",
    "TF_NUM_INTEROP_THREADS",
    "NPROC",  # XLA, and with it JAX: size of its thread pools (xla/pjrt/utils.cc)
)


def prepare_libraries(threads: int) -> None:
    """Set how libraries behave in this process and its children; before any is imported.

    What the operator has set already stays.

    Args:
        threads: Of numerical libraries; 0 for all cores.
    """
    _look_at_what_is_installed()
    # gRPC's handlers around a fork kill the children that user code forks while a conversation
    # goes on. Children do not speak gRPC, so they need none.
    os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")
    if threads:
        for name in _THREADS:
            os.environ.setdefault(name, str(threads))


def _look_at_what_is_installed() -> None:
    """Let no file in the folder where the user stands be a module: it is a repository, perhaps.

    ``python -m`` puts that folder in the first place. It comes last where we are found in it.
    """
    here = os.getcwd()
    if sys.path and not sys.flags.safe_path and sys.path[0] in ("", here):
        del sys.path[0]
        if __file__ == os.path.join(here, "flops_fl", "process", "libraries.py"):
            sys.path.append(here)


@contextmanager
def libraries_limited(threads: int) -> Iterator[None]:
    """The same where someone else has imported NumPy already, such as Flower's processes."""
    prepare_libraries(threads)
    if not threads:
        yield
        return
    from threadpoolctl import threadpool_limits

    torch = sys.modules.get("torch")
    if torch is not None:
        torch.set_num_threads(threads)
    with threadpool_limits(threads):
        yield
