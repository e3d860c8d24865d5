"""From errors to exit codes: how every process of ours begins and ends."""

from __future__ import annotations

import errno
import os
import shutil
import sys
import tempfile
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
from flops_fl.text import without_secrets

THREADS_GRACE = 3.0  # seconds to wait at exit for threads that user code has left running
POOLS_GRACE = 0.5  # seconds of these in which executors may shut down by themselves


def report(error: FlopsError, stream: TextIO) -> None:
    """Write the error for a person: the user's own traceback if there is one, then one line."""
    if isinstance(error, RepositoryError) and error.traceback:
        stream.write(error.traceback.rstrip("\n") + "\n")
    stream.write(f"{stamp(terminal=stream.isatty())}error: {without_secrets(str(error))}\n")
    stream.flush()


def run_main(main: Callable[[], int], answer: Answer | None = None, *, quiet: bool = False) -> int:
    """Run an entry point; return its exit code, with errors reported on stderr.

    Args:
        answer: Gets a failure, too, for a program that reads it.
        quiet: Do not report an interruption, since another process does.

    If user code has left threads running, the process ends after `THREADS_GRACE` at the latest.
    Until then Python waits for the threads, and lets executors shut their worker processes down.
    """
    # gRPC's own log does not name the peer, and any stranger may make it as long as it likes. gRPC
    # reads this variable at import.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    outlive_streams()
    allow_many_files()
    speak()
    answer = answer or Answer()
    code = _run(main, answer, quiet=quiet)
    answer.close()
    if _others():
        threading.Thread(target=_end_anyway, args=(code,), daemon=True).start()
        # An executor whose owner is gone shuts down by itself. If Python exits at that moment, it
        # writes to a pipe that the executor has closed, and prints the error (seen with 3.11).
        deadline = time.monotonic() + POOLS_GRACE
        for thread in _others():
            thread.join(max(0.0, deadline - time.monotonic()))
    return code


def _others() -> list[threading.Thread]:
    """The threads, besides the main one, for which Python waits at exit."""
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
        # If the signal came during an exec of a string, as in @dataclass, Python would end by the
        # signal and ignore our exit code (bpo-1054041). Another exec resets that.
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
    with suppress(OSError, ValueError):  # user code may have closed stderr
        report(error, sys.stderr)
    answer.fail(without_secrets(str(error)), error.exit_code)
    return error.exit_code


def _lacking(error: OSError) -> str:
    """Which resource of the machine ran out, and what to do; empty if none did."""
    # A write does not say which file it was, and it mostly is a temporary one.
    perhaps = f", perhaps in {tempfile.tempdir}" if tempfile.tempdir else ""
    where = f" in {error.filename}" if error.filename else perhaps
    copied = isinstance(error, shutil.Error) and os.strerror(errno.ENOSPC) in str(error)
    if copied or error.errno in (errno.ENOSPC, errno.EDQUOT):
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
