"""Why a process of a simulation failed: from the process that knows it to the one that says it."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from contextlib import suppress

from flops_fl.errors import FederationError, FlopsError, Refused, RepositoryError, UsageError

_MOST = 7000  # characters of each text: a pipe takes 64 KB that nobody reads
_KINDS = {kind.exit_code: kind for kind in (UsageError, FederationError, Refused)}


def telling(main: Callable[[], int], pipe: int) -> int:
    """Run a child's work; its error goes into the pipe. The exit code."""
    try:
        return main()
    except FlopsError as error:
        write_fault(error, pipe)
        return error.exit_code
    except Exception as error:
        said = f"a process failed ({type(error).__name__}: {error}); its error stands above"
        write_fault(FederationError(said), pipe)
        raise


def write_fault(error: FlopsError, pipe: int) -> None:
    """Put an error into a pipe, once."""
    said = {"message": str(error)[:_MOST], "code": error.exit_code}
    if isinstance(error, RepositoryError):
        said |= {"stage": error.stage, "traceback": error.traceback[-_MOST:]}
    with suppress(OSError):  # nobody wants to know
        os.write(pipe, json.dumps(said, ensure_ascii=False).encode(errors="replace"))


def read_fault(pipe: int) -> FlopsError | None:
    """What stands in a pipe; None if nothing does. It does not wait."""
    os.set_blocking(pipe, False)
    try:
        text = os.read(pipe, 1 << 17)
    except BlockingIOError:  # what the process has started may hold the other end
        return None
    if not text:
        return None
    said = json.loads(text)
    if "stage" in said:
        return RepositoryError(said["message"], stage=said["stage"], traceback=said["traceback"])
    return _KINDS.get(said["code"], FederationError)(said["message"])
