"""How many threads numerical libraries use. Imports none of them: it must run before NumPy.

The sum of floats depends on how it is split among threads: the same number everywhere keeps
results the same everywhere.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager


def limit_threads(threads: int) -> None:
    """Set how many threads numerical libraries use; before any of them is imported.

    What the operator has set already stays.
    """
    if threads:
        for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
            os.environ.setdefault(name, str(threads))


@contextmanager
def threads_limited(threads: int) -> Iterator[None]:
    """The same where someone else has imported NumPy already, such as Flower's processes."""
    if not threads:
        yield
        return
    from threadpoolctl import threadpool_limits

    torch = sys.modules.get("torch")
    if torch is not None:
        torch.set_num_threads(threads)
    with threadpool_limits(threads):
        yield
