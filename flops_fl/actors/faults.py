"""Pass the error of a simulation's process through a pipe to the process that reports it."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from contextlib import suppress

from flops_fl.errors import FederationError, FlopsError, Refused, RepositoryError, UsageError

_MOST = 7000  # characters of each text: a pipe buffers 64 KB, beyond which a write blocks
_KINDS = {kind.exit_code: kind for kind in (UsageError, FederationError, Refused)}


def telling(main: Callable[[], int], pipe: int) -> int:
    """Run a child's work and return its exit code; write an error into the pipe and raise it."""
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
    """Write an error into a pipe; call it once for each pipe."""
    said = {"message": str(error)[:_MOST], "code": error.exit_code}
    if isinstance(error, RepositoryError):
        said |= {"stage": error.stage, "traceback": error.traceback[-_MOST:]}
    with suppress(OSError):  # the reader has gone
        os.write(pipe, json.dumps(said, ensure_ascii=False).encode(errors="replace"))


def read_fault(pipe: int) -> FlopsError | None:
    """Read the error in a pipe, without waiting; None if there is none."""
    os.set_blocking(pipe, False)
    try:
        text = os.read(pipe, 1 << 17)
    except BlockingIOError:  # empty, but a subprocess still holds the writing end
        return None
    if not text:
        return None
    said = json.loads(text)
    if "stage" in said:
        return RepositoryError(said["message"], stage=said["stage"], traceback=said["traceback"])
    return _KINDS.get(said["code"], FederationError)(said["message"])
