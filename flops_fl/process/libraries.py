"""Set the environment variables that libraries read at import. This module imports none of them.

A sum of floats depends on how it is split among threads. So the number of threads is set, or
results would depend on the number of a machine's cores.
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
    """Configure libraries for this process and its children; call it before any is imported.

    Variables that the operator has set stay as they are.

    Args:
        threads: The number of threads of numerical libraries; 0 leaves it to each library.
    """
    _look_at_what_is_installed()
    # While an RPC is open, gRPC's fork handlers kill each child that user code forks. Such a child
    # does not use gRPC, so we switch the handlers off.
    os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")
    if threads:
        for name in _THREADS:
            os.environ.setdefault(name, str(threads))


def _look_at_what_is_installed() -> None:
    """Keep files in the working folder, perhaps a user's repository, from hiding installed modules.

    ``python -m`` puts the working folder first on the import path. We remove it, or move it to the
    end if flops_fl itself is imported from there.
    """
    here = os.getcwd()
    if sys.path and not sys.flags.safe_path and sys.path[0] in ("", here):
        del sys.path[0]
        if __file__ == os.path.join(here, "flops_fl", "process", "libraries.py"):
            sys.path.append(here)


@contextmanager
def libraries_limited(threads: int) -> Iterator[None]:
    """`prepare_libraries` where NumPy may be imported already, such as in Flower's processes."""
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
