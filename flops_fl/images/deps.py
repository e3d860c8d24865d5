"""``flops-fl deps``: proposes a dependency file, proves that it can be installed, and locks it."""

from __future__ import annotations

import logging
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from flops_fl.check.report import order_of
from flops_fl.check.trial import run_trial
from flops_fl.errors import UsageError
from flops_fl.images.base import MACHINES
from flops_fl.images.lock import FILE, Lock
from flops_fl.images.needs import resolve
from flops_fl.images.proposal import Proposal, beyond, propose
from flops_fl.images.uv import Target
from flops_fl.options.images import DepsOptions
from flops_fl.process.answer import Answer
from flops_fl.process.files import atomic
from flops_fl.process.signals import raise_on_signals
from flops_fl.process.temporary import temporary_folder
from flops_fl.repo.source import checkout

log = logging.getLogger(__name__)

PATIENCE = 1800.0  # seconds for a step of user code, and for MLflow's inference
INSIDE = "flops_fl.images.inferring"


def propose_dependencies(options: DepsOptions, answer: Answer) -> None:
    """Propose the dependency file of a repository, and write it with its lock if that is wanted.

    Raises:
        RepositoryError: a file cannot be read, or no versions fit together.
        UsageError: uv or the network is missing, or the repository cannot be written.
    """
    raise_on_signals()
    if options.write and not Path(options.repo).is_dir():
        raise UsageError(f"--write {options.repo}: expected a folder, which can be written")
    with checkout(options.repo) as repo:
        if options.write:  # said before the work, which takes a while
            with _writing(repo.path), tempfile.TemporaryFile(dir=repo.path):
                pass
        log.info("choosing versions for %s", ", ".join(options.platform))
        proposal = propose(repo.path, repo.name, options.python)
        targets = [
            Target(platform, options.python, f"{MACHINES[platform]}-unknown-linux-gnu")
            for platform in options.platform
        ]
        lock, missed = resolve(repo.path, proposal.needs, targets, cpu=options.cpu)
        pins = lock.pins[options.platform[0]]
        proposal = proposal.pinned(pins)
        proposal = replace(proposal, dropped=[*proposal.dropped, *missed])
        asked = proposal.needs.asked(options.python, cpu=options.cpu)
        lock = replace(lock, asked=asked)
        log.info("building the model in a process of its own, and asking MLflow what it needs")
        found, why = _inferred(repo.path, options)
        inferred = beyond(found, proposal, pins)
        if why:
            note = f"MLflow was not asked, since the code does not run here: {why}"
            proposal = replace(proposal, notes=[*proposal.notes, note])
        written: list[str] = []
        if options.write:
            with _writing(repo.path):
                written = _write(repo.path, proposal, lock)
    if answer.as_json:
        answer.give(_document(proposal, lock, inferred, written))
    else:
        _print(proposal, lock, inferred, written)


def _inferred(folder: Path, options: DepsOptions) -> tuple[list[str], str]:
    """What MLflow finds after one cycle; without data, on the model as it is built.

    Returns:
        Requirements, and why there are none; empty if that is MLflow's answer.

    Raises:
        UsageError: the data cannot be used.
    """
    with temporary_folder("flops-fl-deps-") as kept:
        trial = run_trial(order_of(options, folder, kept, kind="inferred", limit=PATIENCE), INSIDE)
    found: list[str] = trial.facts.get("requirements", [])
    return found, next((each.what for each in trial.remarks), "")


@contextmanager
def _writing(folder: Path) -> Iterator[None]:
    """Say in a sentence that the repository cannot be written."""
    try:
        yield
    except OSError as error:
        raise UsageError(
            f"--write: {folder} cannot be written ({error.strerror}): make room there, give a "
            "folder that can, or leave --write out, which prints the file"
        ) from error


def _write(folder: Path, proposal: Proposal, lock: Lock) -> list[str]:
    for name, text in ((proposal.file, proposal.text()), (FILE, lock.text())):
        with atomic(folder / name) as file:
            file.write(text.encode())
    return [proposal.file, FILE]


def _print(proposal: Proposal, lock: Lock, inferred: Mapping[str, str], written: list[str]) -> None:
    console = Console(stderr=True, highlight=False)
    table = Table("package", "why", title=proposal.file, title_justify="left")
    for line in proposal.lines:
        table.add_row(f"+ {line.text}" if line.is_new else line.text, line.why)
    for each in proposal.removed:
        table.add_row(f"- {each.text}", each.why)
    console.print(table)
    for note in proposal.notes:
        console.print(note, soft_wrap=True)
    for each in proposal.dropped:
        console.print(each.sentence(proposal.file), soft_wrap=True)
    for text, why in inferred.items():
        console.print(f"MLflow would list {text}: {why}", soft_wrap=True)
    for platform, pins in lock.pins.items():
        console.print(f"{platform}: {len(pins)} packages fit together, with flops-fl's own")
    if written:
        console.print(f"written: {', '.join(written)}")
    else:
        sys.stdout.write(proposal.text())


def _document(
    proposal: Proposal, lock: Lock, inferred: Mapping[str, str], written: list[str]
) -> dict[str, Any]:
    def rows(dropped: Any) -> list[dict[str, Any]]:
        return [{"line": each.line, "text": each.text, "why": each.why} for each in dropped]

    return {
        "status": "completed",
        "file": proposal.file,
        "python": proposal.python,
        "lines": [{"text": x.text, "why": x.why, "new": x.is_new} for x in proposal.lines],
        "removed": rows(proposal.removed),
        "not_kept": rows(proposal.dropped),
        "notes": list(proposal.notes),
        "mlflow": dict(inferred),
        "packages": {platform: len(pins) for platform, pins in lock.pins.items()},
        "written": written,
    }
