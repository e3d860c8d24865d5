"""Give the memory of large tensors back when they are freed."""

from __future__ import annotations

import ctypes

M_MMAP_THRESHOLD, M_ARENA_MAX = -3, -8  # mallopt(3)
LARGE = 8 << 20  # bytes


def return_large_blocks() -> None:
    """Let every block of `LARGE` bytes or more be a mapping of its own (glibc; else no effect).

    By itself glibc raises that limit to 32 MB as such blocks are freed; tensors then lie in a
    heap that cannot shrink, with holes between them: a third more memory over some rounds.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(M_MMAP_THRESHOLD, LARGE)
        mallopt(M_ARENA_MAX, 1)  # one heap: gRPC's threads would each keep their own
