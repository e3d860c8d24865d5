"""Return the memory of large tensors to the system when they are freed."""

from __future__ import annotations

import ctypes

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
