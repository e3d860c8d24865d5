"""How many threads numerical libraries use. Imports nothing: it must run before NumPy."""

from __future__ import annotations

import os


def limit_threads(threads: int) -> None:
    """Set how many threads numerical libraries use; before any of them is imported.

    The sum of floats depends on how it is split among threads: the same number everywhere
    keeps results the same everywhere. What the operator has set already stays.
    """
    if threads:
        for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
            os.environ.setdefault(name, str(threads))
