"""`flops-fl run` runs a user's program; `load_dataset()` gives it a learner's data."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from flops_fl.errors import UsageError
from flops_fl.options.use import RunOptions
from flops_fl.process.temporary import temporary_folder
from flops_fl.repo.source import Checkout, checkout
from flops_fl.repo.workfolder import WorkFolders

_SITE = """
import sys
try:
    from flops_fl.use.inside import run_hidden, serve
except ImportError as error:
    sys.stderr.write(
        f"error: {{sys.executable}} lacks flops-fl ({{error}}), so load_dataset() has no data: "
        "install it there, or use the Python that has it\\n"
    )
else:
    run_hidden({folder!r})
    serve({told!r}, {learner!r})
"""


def run_program(options: RunOptions, program: Sequence[str]) -> int:
    """Run a program in the repository's folder.

    Returns:
        The program's exit code; 128 plus the signal's number if a signal has killed it.

    Raises:
        UsageError: there is no such repository, or the program cannot be run.
    """
    with (
        checkout(options.repo) as repo,
        temporary_folder("flops-fl-run-") as site,
        _inside(options.repo, repo) as folder,
    ):
        text = _SITE.format(folder=str(site), told=options.told(), learner=options.learner)
        (site / "sitecustomize.py").write_text(text)
        first = {"PYTHONPATH": str(site), "PATH": os.path.dirname(sys.executable)}
        environment = {**os.environ, **{name: _led(value, name) for name, value in first.items()}}
        # The terminal sends Ctrl-C to the program, too; we wait for how it ends.
        signal.signal(signal.SIGINT, lambda number, frame: None)
        # Blocked, a SIGTERM waits for `_pass_on`. A handler would lose one that comes before the
        # program is there, and run too late for one that comes just before wait(2) blocks.
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
        try:
            child = subprocess.Popen(
                program,
                cwd=folder,
                env=environment,
                preexec_fn=_unblock,  # noqa: PLW1509 - no other thread runs yet
            )
        except OSError as error:
            raise UsageError(
                f"{program[0]} cannot be run ({error.strerror}): expected a program and its "
                "arguments after --, such as -- python model_manager.py"
            ) from None
        threading.Thread(target=_pass_on, args=[child], daemon=True).start()
        code = child.wait()
    return 128 - code if code < 0 else code


def _unblock() -> None:
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGTERM])


def _pass_on(child: subprocess.Popen[bytes]) -> None:
    while True:
        child.send_signal(signal.sigwait([signal.SIGTERM]))


def _led(first: str, name: str) -> str:
    """The value of an environment variable of paths, with the folder `first` put in front."""
    return os.pathsep.join([first, *filter(None, [os.environ.get(name)])])


@contextmanager
def _inside(source: str, repo: Checkout) -> Iterator[Path]:
    """The folder to run in: the user's own, or a mirror of a clone, whose new files are kept."""
    if Path(source).is_dir():
        yield repo.path
        return
    folders = WorkFolders(repo.path)
    work = folders.of("run")
    try:
        with work.entered():
            yield Path.cwd()
    finally:
        work.close()
        folders.close()
