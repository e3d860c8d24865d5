"""From errors to exit codes: how every process of ours begins and ends."""

from __future__ import annotations

import errno
import os
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import TextIO

from flops_fl.errors import INTERRUPTED, FlopsError, RepositoryError, UsageError
from flops_fl.process.answer import Answer
from flops_fl.process.files import allow_many_files, open_files_allowed
from flops_fl.process.lines import speak, stamp
from flops_fl.process.signals import ignore_signals
from flops_fl.process.streams import outlive_streams

THREADS_GRACE = 3.0  # seconds for threads of user code that nobody has ended
POOLS_GRACE = 0.5  # and for those that are ending


def report(error: FlopsError, stream: TextIO) -> None:
    """Write the error for a person: the user's own traceback if any, then one line."""
    if isinstance(error, RepositoryError) and error.traceback:
        stream.write(error.traceback.rstrip("\n") + "\n")
    stream.write(f"{stamp(terminal=stream.isatty())}error: {error}\n")
    stream.flush()


def run_main(main: Callable[[], int], answer: Answer | None = None, *, quiet: bool = False) -> int:
    """Run an entry point; return its exit code, with errors reported on stderr.

    Args:
        answer: Where a program may read of a failure.
        quiet: Say nothing of an interruption: somebody else will.

    Where user code has left threads behind, Python waits for them when the process ends, and tells
    their pools to let go of their own processes; it does not wait for ever.
    """
    # gRPC's own lines say that a handshake failed and not with whom. Before it is imported.
    os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
    outlive_streams()
    allow_many_files()
    speak()
    answer = answer or Answer()
    code = _run(main, answer, quiet=quiet)
    answer.close()
    if _others():
        threading.Thread(target=_end_anyway, args=(code,), daemon=True).start()
        # A pool that has just lost its owner ends by itself. Python's own end, at the same moment,
        # would write to a pipe that the pool has closed, and print that (seen with 3.11).
        deadline = time.monotonic() + POOLS_GRACE
        for thread in _others():
            thread.join(max(0.0, deadline - time.monotonic()))
    return code


def _others() -> list[threading.Thread]:
    """Threads that would keep the process."""
    main = threading.main_thread()
    return [thread for thread in threading.enumerate() if not thread.daemon and thread is not main]


def _end_anyway(code: int) -> None:
    time.sleep(THREADS_GRACE)
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            stream.flush()
    os._exit(code)


def _run(main: Callable[[], int], answer: Answer, *, quiet: bool) -> int:
    try:
        code = main()
        ignore_signals()
    except FlopsError as error:
        return _failed(error, answer)
    except KeyboardInterrupt:
        ignore_signals()
        # Python ends by the signal, whatever the exit code, if it came in an exec of text, such
        # as makes a dataclass (bpo-1054041); the next exec makes it forget that.
        exec("")
        with suppress(OSError, ValueError):
            if not quiet:
                sys.stderr.write(f"{stamp(terminal=sys.stderr.isatty())}interrupted\n")
        answer.fail("interrupted", INTERRUPTED)
        return INTERRUPTED
    except Exception as error:
        said = _lacking(error) if isinstance(error, OSError) else ""
        if said:
            return _failed(UsageError(said), answer)
        answer.fail(f"{type(error).__name__}: {error}", FlopsError.exit_code)
        raise
    return code


def _failed(error: FlopsError, answer: Answer) -> int:
    ignore_signals()
    with suppress(OSError, ValueError):  # user code may have closed it
        report(error, sys.stderr)
    answer.fail(str(error), error.exit_code)
    return error.exit_code


def _lacking(error: OSError) -> str:
    """What the machine has too little of, and what to do; empty if that is not the cause."""
    where = f" in {error.filename}" if error.filename else ""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"no room is left{where}: make room there, or set TMPDIR to a folder with more"
    if error.errno in (errno.EMFILE, errno.ENFILE):
        return (
            f"too many files are open; this process may have {open_files_allowed()}: raise the "
            "limit (ulimit -n), or host fewer learners"
        )
    if error.errno == errno.ENOENT and "temporary directory" in str(error.strerror):
        return (
            f"no folder for temporary files can be written ({error.strerror}): set TMPDIR to one "
            "that can"
        )
    return ""
