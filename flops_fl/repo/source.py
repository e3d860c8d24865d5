"""Fetches an ML repository from a folder or from a Git URL with an optional @ref."""

from __future__ import annotations

import errno
import json
import logging
import os
import re
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from flops_fl.errors import RepositoryError, UsageError
from flops_fl.limits import CLONE_TIMEOUT
from flops_fl.process.temporary import temporary_folder
from flops_fl.repo.git_errors import why_and_remedy
from flops_fl.text import without_login, without_secrets

log = logging.getLogger(__name__)

CHANGES = "+changes"
ORIGIN = ".flops-origin.json"
"""A file in images, which have no Git: the repository's source and commit."""
_DISK = (
    "unable to write",  # a file of a checkout; Git does not say why
    *(os.strerror(each) for each in (errno.ENOSPC, errno.EDQUOT, errno.EROFS)),
)
_ONLY_WHOLE = "does not support shallow capabilities"
"""Git of a server that only has files (dumb HTTP): all of a branch's history must be fetched."""
_URL = re.compile(r"^(?:[a-z][a-z0-9+.-]*://|[\w.-]+@[\w.-]+:)", re.IGNORECASE)


class _NoDisk(UsageError):
    """Git cannot write where the repository is to be."""


@dataclass(frozen=True, slots=True)
class Checkout:
    """A repository's files on disk, and where they came from.

    `source` contains no password or token, so it may be shown and stored. `commit` is None outside
    Git, and ends in ``+changes`` if the folder's files differ from that commit.
    """

    path: Path
    source: str
    commit: str | None

    @property
    def name(self) -> str:
        """The repository's name, usable as the name of a folder or project."""
        if is_url(self.source):
            url = split_ref(self.source)[0].rstrip("/").removesuffix(".git")
            name = re.split("[/:]", url)[-1]
        else:
            name = Path(self.source).resolve().name
        return re.sub(r"[^\w.@+=-]", "-", name).lstrip(".") or "project"


@contextmanager
def checkout(source: str, timeout: float = CLONE_TIMEOUT) -> Iterator[Checkout]:
    """Yield the repository on disk; a clone is removed when the context ends.

    Args:
        source: A folder, or a Git URL, optionally with ``@`` and a branch, tag or commit.
        timeout: Seconds for each call of Git.

    Raises:
        UsageError: there is no such folder, or Git is missing or cannot fetch the URL.
        RepositoryError: the folder has no model_manager.py.
    """
    folder = Path(source)
    if (folder / ORIGIN).is_file():
        said = json.loads((folder / ORIGIN).read_text())
        yield _inspect(folder.resolve(), said["source"] or source, said["commit"] or None)
    elif folder.is_dir():
        yield _inspect(folder.resolve(), source, _commit_of(folder))
    elif is_url(source):
        with temporary_folder("flops-fl-repo-") as temporary:
            target = temporary / "repo"
            yield _inspect(target, without_secrets(source), _clone(source, target, timeout))
    else:
        local, _, ref = source.rpartition("@")
        if Path(local).is_dir() and local:
            raise UsageError(
                f"no ML repository at {source!r}: @{ref} is for Git URLs. Give the folder "
                f"alone, {local}, or file://{Path(local).resolve()}@{ref}"
            )
        raise UsageError(
            f"no ML repository at {without_login(source)!r}: expected a folder with "
            "model_manager.py, or a Git URL such as https://example.org/me/model.git@main"
        )


@contextmanager
def checkout_of(
    source: str, commit: str | None, timeout: float = CLONE_TIMEOUT
) -> Iterator[Checkout]:
    """Give a repository as it was: at a commit, as a `Checkout` names it.

    A folder stays as it is. Where it differs from the commit, that is checked out elsewhere; where
    that cannot be, the folder is used. A line says either.

    Raises:
        UsageError, RepositoryError: see `checkout`.
    """
    folder = Path(source)
    if not folder.is_dir():
        named = f"{split_ref(source)[0]}@{commit}" if commit else source
        with checkout(named, timeout) as repo:
            yield repo
        return
    now = _commit_of(folder)
    with temporary_folder("flops-fl-repo-") as temporary:
        target = temporary / "repo"
        if commit is None or (now == commit and not commit.endswith(CHANGES)):
            yield _inspect(folder.resolve(), source, now)
        elif _checked_out(folder, commit, target):
            log.info("%s is at %s: the run's commit %s is checked out", source, now, commit)
            prefix = _git(folder, source, "rev-parse", "--show-prefix")
            yield _inspect(target / prefix, source, commit)
        else:
            log.warning(
                "%s is used as it is now (%s): the run's files (%s) are no commit that it has",
                source, now or "in no Git work tree", commit,
            )  # fmt: skip
            yield _inspect(folder.resolve(), source, now)


def _checked_out(folder: Path, commit: str, target: Path) -> bool:
    """Whether a commit of the folder's work tree is in `target` now."""
    try:
        top = _git(folder, str(folder), "rev-parse", "--show-toplevel")
        # Objects are shared: none is copied, and those are found that no branch has.
        _git(folder, top, "clone", "-q", "--shared", "--no-checkout", "--", top, str(target))
        _git(target, top, "checkout", "-q", "--detach", commit, "--")
    except _NoDisk:
        raise
    except UsageError:
        return False
    return True


def _inspect(folder: Path, source: str, commit: str | None) -> Checkout:
    if not (folder / "model_manager.py").is_file():
        raise RepositoryError(
            f"{source} has no model_manager.py: an ML repository needs one at its top level, "
            "with a class ModelManager (see docs/ml-repositories.md)",
            stage="import",
        )
    return Checkout(folder, source, commit)


def is_url(source: str) -> bool:
    """Whether it is Git that fetches it."""
    return bool(_URL.match(source))


def split_ref(source: str) -> tuple[str, str]:
    """Split ``URL@ref`` at the @ of the ref, not at that of ``git@host:`` or ``user@host``."""
    match = _URL.match(source)
    host_end = match.end() if match else 0
    if match and match.group().endswith("//"):  # scheme://user@host/path: look past the host
        host_end = max(source.find("/", host_end), host_end)
    # A ref may contain an @, too. The @ that begins a folder's name starts no ref: /@scope/model.
    found = re.search(r"(?<=[^/])@(?=.)", source[host_end:])
    if found is None:
        return source, "HEAD"
    at = host_end + found.start()
    return source[:at], source[at + 1 :]


def _clone(source: str, target: Path, timeout: float) -> str:
    url, ref = split_ref(source)
    git = partial(_git, target, source, timeout=timeout)
    target.mkdir()
    git("init", "--quiet")
    try:
        git("fetch", "--quiet", "--depth", "1", "--", url, ref)
    except _NoDisk:
        raise
    except UsageError as error:
        if re.fullmatch(r"[0-9a-f]{7,40}", ref):
            # A server may refuse a commit id that no branch points at. Then fetch everything.
            git("fetch", "--quiet", "--", url, "+refs/*:refs/remotes/all/*")
            git("checkout", "--quiet", "--detach", ref)
            return git("rev-parse", "HEAD")
        if _ONLY_WHOLE not in str(error):
            raise
        git("fetch", "--quiet", "--", url, ref)
    git("checkout", "--quiet", "--detach", "FETCH_HEAD")
    return git("rev-parse", "HEAD")


def _commit_of(folder: Path) -> str | None:
    """The commit of a Git work tree, or of the one that a folder is in; None outside Git."""
    try:
        commit = _git(folder, str(folder), "rev-parse", "HEAD")
        changes = _git(folder, str(folder), "status", "--porcelain", "-z", "--", ".")
        top = Path(_git(folder, str(folder), "rev-parse", "--show-toplevel"))
    except UsageError:
        return None
    foreign = [line for line in changes.split("\0") if line and not _is_run(top, line)]
    return f"{commit}{CHANGES}" if foreign else commit


def files_of(folder: Path) -> list[Path]:
    """The files of a repository, relative to it: those that Git knows or does not ignore.

    Outside of Git these are all but hidden ones, bytecode, and the results of runs.
    """
    try:
        listed = _git(
            folder, str(folder), "ls-files", "-z", "--cached", "--others", "--exclude-standard"
        )
        names = {Path(name) for name in listed.split("\0") if name}
    except UsageError:
        names = {file.relative_to(folder) for file in folder.rglob("*") if not file.is_dir()}
    apart = ("__pycache__", "runs")
    return sorted(
        name
        for name in names
        if not any(part.startswith(".") or part in apart for part in name.parts)
        and ((folder / name).is_file() or (folder / name).is_symlink())
    )


def told_by_git(folder: Path) -> tuple[str, int]:
    """Where a repository was cloned from, without secrets, and when its commit was made.

    Returns:
        The URL, empty where there is none, and seconds since 1970.
    """
    answers = []
    for question in (("remote", "get-url", "origin"), ("show", "-s", "--format=%ct")):
        try:
            answers.append(_git(folder, str(folder), *question))
        except UsageError:
            answers.append("")
    return without_secrets(answers[0]), int(answers[1] or 0)


def _is_run(top: Path, line: str) -> bool:
    """Whether an untracked entry is the results of runs, which do not change the code."""
    folder = top / line[3:]
    depths = ("result.json", "*/result.json", "*/*/result.json")  # a data folder may be huge
    return line.startswith("??") and any(any(folder.glob(depth)) for depth in depths)


def _git(folder: Path, source: str, *arguments: str, timeout: float = CLONE_TIMEOUT) -> str:
    environment = os.environ | {"GIT_TERMINAL_PROMPT": "0", "LC_ALL": "C"}  # we read what it says
    source = without_secrets(source)
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *arguments],
            capture_output=True,
            text=True,
            timeout=timeout,
            env=environment,
            stdin=subprocess.DEVNULL,
            check=False,
        )
    except FileNotFoundError:
        raise UsageError(
            f"Git is needed for {source!r} but not installed: install git, or give a folder"
        ) from None
    except subprocess.TimeoutExpired:
        raise UsageError(
            f"{source!r} did not answer within {timeout:g} s (--clone-timeout): check the address"
        ) from None
    if done.returncode:
        own = [line for line in done.stderr.splitlines() if not line.startswith("remote:")]
        if said := next((line for line in own if any(each in line for each in _DISK)), ""):
            raise _NoDisk(
                f"{source!r} cannot be written below {tempfile.gettempdir()} ({said}): make room "
                "there, or set TMPDIR to another folder"
            )
        raise UsageError(f"Git cannot fetch {source!r} {why_and_remedy(done.stderr)}")
    return done.stdout.strip()
