"""`flops-fl project render`: a project's files for an orchestrator, written into a folder."""

from __future__ import annotations

import hashlib
import json
import logging
import re
import tempfile
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from shlex import quote
from typing import TextIO

from flops_fl.errors import UsageError
from flops_fl.images.build import tag_of
from flops_fl.options.data import NO_DATA
from flops_fl.options.render import RenderOptions, Target
from flops_fl.process.files import atomic
from flops_fl.project.compose import compose
from flops_fl.project.kubernetes import kubernetes
from flops_fl.project.oakestra import oakestra
from flops_fl.project.services import Federation
from flops_fl.project.sla import Sla, read_sla
from flops_fl.project.team import require_few
from flops_fl.project.written import Written, as_json
from flops_fl.repo.source import CHANGES, checkout

log = logging.getLogger(__name__)

TARGETS: dict[Target, Callable[[Federation], Written]] = {
    "compose": compose,
    "kubernetes": kubernetes,
    "oakestra": oakestra,
}
RECORD = ".flops-fl.json"
"""Names what was written, for which orchestrator, with a digest of each file."""
LONGEST = 30  # characters of a project's name: Kubernetes has room for 52, with our endings
SHORT = 12  # characters of a commit


def render(options: RenderOptions, stdout: TextIO) -> None:
    """Write the files, and print what to do next.

    Raises:
        UsageError: the SLA has mistakes, the options do not fit it, there is no such repository,
            or the folder has files that are not ours or were changed.
        RepositoryError: the repository is none.
    """
    sla = read_sla(options.sla)
    learners, clusters = _counts(options, sla)
    with checkout(sla.ml_repo_url, options.clone_timeout) as repo:
        registry = f"{options.registry}/" if options.registry else ""
        images = {role: registry + tag_of(repo, role) for role in ("learner", "aggregator")}
        commit, name, source = repo.commit or "", repo.name, repo.source
    federation = Federation(
        project=_short(name),
        sla=sla,
        images=images,
        commit=_folder_of(commit),
        learners=learners,
        clusters=clusters,
        has_data=options.data != NO_DATA,
        secure=not options.insecure,
    )
    written = TARGETS[options.for_](federation)
    _write(options.out, options.for_, written.files)
    if commit.endswith(CHANGES) or not commit:
        log.warning("%s has files that are in no commit, and so have its images", source)
    if not registry:
        log.warning("without --registry the images must be on the machines already")
    for note in written.notes if not options.insecure else ():
        log.warning("%s", note)
    folder = quote(str(options.out))
    stdout.write(f"{options.out}: {', '.join(written.files)}\nnext: see {folder}/README.md\n")


def _counts(options: RenderOptions, sla: Sla) -> tuple[int, int]:
    """How many learners (of each cluster) and how many clusters."""
    clusters, least = sla.clusters(options.clusters), sla.training.min_available_clients
    learners = options.learners or least
    if learners < least:
        raise UsageError(
            f"--learners {learners}: rounds would never start, since min_available_clients is "
            f"{least}: expected at least that many"
        )
    require_few(clusters, learners)
    return learners, clusters


def _folder_of(commit: str) -> str:
    """The name of a run's folder: none can go on with another commit's run."""
    changes = CHANGES.replace("+", "-") if commit.endswith(CHANGES) else ""
    return commit.removesuffix(CHANGES)[:SHORT] + changes or "run"


def _short(name: str) -> str:
    """The name as all orchestrators take it."""
    short = re.sub("[^a-z0-9]+", "-", name.lower()).strip("-")[:LONGEST].strip("-")
    return short if short[:1].isalpha() else f"project-{short}".strip("-")


def _write(folder: Path, target: Target, files: Mapping[str, str]) -> None:
    """Write files into a new folder, or into one that has such files unchanged."""
    try:
        digests = {name: _digest(text.encode()) for name, text in files.items()}
        record = as_json({"for": target, "files": digests})
        texts = {**files, RECORD: record}
        if folder.is_dir() and any(folder.iterdir()):
            _require_ours(folder, target, files)
            for name, text in texts.items():
                with atomic(folder / name) as file:
                    file.write(text.encode())
            return
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(
            prefix=f".{folder.name}-", dir=folder.parent, ignore_cleanup_errors=True
        ) as aside:
            made = Path(aside, "made")
            made.mkdir()
            for name, text in texts.items():
                (made / name).write_text(text)
            made.rename(folder)
    except OSError as error:
        raise UsageError(
            f"--out {folder} cannot be written ({error.strerror}): give another folder"
        ) from None


def _require_ours(folder: Path, target: Target, files: Mapping[str, str]) -> None:
    """Refuse to replace what somebody has changed, or what is for another orchestrator."""
    record: dict[str, object] = {}
    with suppress(OSError, ValueError):
        record = json.loads((folder / RECORD).read_bytes())
    if record.get("for", target) != target:
        raise UsageError(
            f"--out {folder} has the files for {record['for']}: give another folder for {target}"
        )
    before = record.get("files")
    known: Mapping[str, str] = before if isinstance(before, dict) else {}
    changed = []
    for name, text in files.items():
        with suppress(FileNotFoundError):
            now = (folder / name).read_bytes()
            if now != text.encode() and known.get(name) != _digest(now):
                changed.append(name)
    if changed:
        raise UsageError(
            f"--out {folder}: {', '.join(changed)} would be overwritten, and what stands there "
            "now is not from flops-fl: move it away, or give another folder"
        )


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
