"""Deliver something to a server that may be away."""

from __future__ import annotations

import time
from collections.abc import Callable


def delivered(
    do: Callable[[], None],
    deadline: Callable[[], float],
    failed: Callable[[Exception], None],
    *,
    longest: float,
    mended: type[Exception] = Exception,
) -> bool:
    """Call `do` until it succeeds (True), or no further try begins before the deadline (False).

    Args:
        deadline: Returns it, monotonic, in seconds; it may come nearer meanwhile.
        failed: Called with the first error.
        longest: The longest pause between tries, in seconds; the first ones are shorter.
        mended: The errors after which another try is worth it; others are raised.
    """
    wait, told = 0.5, False
    while True:
        try:
            do()
        except mended as error:
            if not told:
                told = True
                failed(error)
            if time.monotonic() + wait > deadline():
                return False
            time.sleep(wait)
            wait = min(wait * 2, longest)
        else:
            return True
