"""A process's memory: its peak, what is given back to the system, what is searched for garbage."""

from __future__ import annotations

import ctypes
import gc
import resource
import sys
from contextlib import suppress

M_MMAP_THRESHOLD, M_ARENA_MAX = -3, -8  # mallopt(3)
LARGE = 8 << 20  # bytes


def return_large_blocks() -> None:
    """Let malloc map every block of `LARGE` bytes or more on its own (glibc; else no effect).

    By default glibc raises this threshold up to 32 MB as such blocks are freed. Tensors then lie
    in a heap that fragments and cannot shrink: it took a third more memory after some rounds.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(M_MMAP_THRESHOLD, LARGE)
        mallopt(M_ARENA_MAX, 1)  # one heap for all threads, or each of gRPC's would keep one


def freeze_imports() -> None:
    """Spare what is imported by now the garbage collector's searches, and forks their own copies.

    A round of a thousand learners makes so many objects that Python searches all that are alive.
    Most of those belong to modules, which stay until the process ends. A search also writes to
    each object, so a forked process would copy the pages that it shares with its parent.
    """
    gc.freeze()


def peak_memory() -> int:
    """Peak resident size of this process in bytes.

    On Linux it comes from proc(5): the value of getrusage(2) includes the peak of the process that
    started this one.
    """
    with suppress(OSError, StopIteration), open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmHWM")) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
