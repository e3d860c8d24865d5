"""How far a long put is: a bar on a terminal, else a line in the log every few seconds."""

from __future__ import annotations

import logging
import time
from collections.abc import Generator, Iterable
from contextlib import ExitStack
from typing import Any

from flops_fl.text import amount

log = logging.getLogger(__name__)

EVERY = 10.0  # seconds between two lines in a log


def followed(batches: Iterable[Any], what: str, total: int | None, *, bar: bool) -> Generator[Any]:
    """The batches, while their bytes are shown.

    Args:
        what: What is done with them, such as ``sending``.
        total: Bytes of all batches; None if nobody knows.
        bar: Whether a bar may be shown, if standard error is a terminal.
    """
    from rich import progress as rich
    from rich.console import Console

    done, said, console = 0, time.monotonic(), Console(stderr=True)
    columns = (rich.TextColumn("{task.description}"), rich.BarColumn(), rich.DownloadColumn())
    with ExitStack() as stack:
        shown = bar and console.is_terminal
        if shown:
            bars = rich.Progress(*columns, console=console, transient=True)
            task = stack.enter_context(bars).add_task(what, total=total)
        for batch in batches:
            yield batch
            done += batch.nbytes
            if shown:
                bars.update(task, completed=done)
            elif time.monotonic() - said >= EVERY:
                said = time.monotonic()
                of = f" of {amount(total)}" if total is not None else ""
                log.info("%s: %s%s", what, amount(done), of)
