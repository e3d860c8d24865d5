"""The model that an image serves: of a run, or one in MLflow, in the folder that MLflow loads."""

from __future__ import annotations

import json
import logging
import os
import re
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import yaml
from packaging.utils import canonicalize_name

from flops_fl.errors import RepositoryError
from flops_fl.images.needs import MLFLOW, Needs, head_of, needs_of_model
from flops_fl.options.images import THIS_PYTHON, ImageOptions
from flops_fl.process.temporary import temporary_folder
from flops_fl.repo.dependencies import STUBS, code_paths, installed_requirements, pip_requirements
from flops_fl.repo.imports import packages_imported
from flops_fl.repo.source import Checkout

log = logging.getLogger(__name__)

_OF_THE_MOMENT = ("utc_time_created", "model_uuid", "model_id", "model_size_bytes")
"""What MLflow notes in ``MLmodel`` anew each time."""
_LOADS = """
import json, sys
from mlflow.pyfunc import load_model
load_model(sys.argv[1])
print(json.dumps(sorted(sys.modules)))
"""


@dataclass(frozen=True, slots=True)
class Served:
    """A model that an image is to serve."""

    folder: Path
    """As MLflow has written it."""
    needs: Needs
    python: str
    """The version of Python that has written it, which its pickles need; empty if not known."""
    run: str = ""
    """The id of the run that has trained it, if that is known."""


@contextmanager
def served_model(options: ImageOptions) -> Iterator[tuple[Checkout, Served]]:
    """A run's best model or one in MLflow in a temporary folder, and the repository it is from.

    Raises:
        UsageError: there is no such run or model, or MLflow is not installed.
        RepositoryError: the repository's code fails, or its model cannot be loaded by itself.
    """
    from flops_fl.observers.scoring import fetched
    from flops_fl.use.serve import require_mlflow

    require_mlflow()
    with temporary_folder("flops-fl-model-") as temporary:
        folder = temporary / "model"
        if not options.in_mlflow:
            with _of_run(options, folder) as found:
                yield found
            return
        log.info("fetching %s from MLflow", options.repo)
        fetched(options.repo, options.tracking_uri, folder)
        said = yaml.safe_load((folder / "MLmodel").read_text("utf-8"))
        environment = folder / "python_env.yaml"
        noted = yaml.safe_load(environment.read_text()) if environment.exists() else {}
        lines = (folder / "requirements.txt").read_text("utf-8").splitlines()
        # MLflow leaves out of these lines what its own package brings, such as skops.
        needs = needs_of_model("the model's requirements.txt", lines, tracked=True)
        at = Checkout(folder, options.repo, said.get("model_id") or said.get("run_id"))
        yield at, Served(folder, needs, ".".join(str(noted.get("python", "")).split(".")[:2]))


@contextmanager
def _of_run(options: ImageOptions, folder: Path) -> Iterator[tuple[Checkout, Served]]:
    from flops_fl.observers.scoring import written
    from flops_fl.use.model import read_run

    found = read_run(options.run or Path(options.repo), best=True)
    log.info("writing the best model of %s as MLflow loads it", options.run or options.repo)
    with found.repository(options.repo if options.run else None) as repo:
        with found.importable(repo.path) as user:  # MLflow may import the user's modules
            paths = code_paths(repo.path)
            written(user.model(), folder, paths, user.input_example(), skops=False)
        _settle(folder)
        needs = _needs(repo.path, _loaded(folder))
        yield repo, Served(folder, needs, THIS_PYTHON, found.run_id)


def _needs(repo: Path, loaded: frozenset[str]) -> Needs:
    """The requirements of a model in the versions with which it was written."""
    listed = {canonicalize_name(head_of(text)) for text in pip_requirements(repo)}
    lines, others = installed_requirements(repo)
    for said in others:
        log.warning("the repository asks for %s", said)
    if "flops_utils" not in loaded:  # its code is not called when the model predicts
        lines = [
            text
            for text in lines
            if (name := canonicalize_name(head_of(text))) in listed or name not in STUBS
        ]
    tracked = MLFLOW & {each.module for each in packages_imported(repo)}
    return needs_of_model("the repository's dependency file", lines, tracked=bool(tracked))


def _loaded(folder: Path) -> frozenset[str]:
    """The modules that loading the model imports, in a process that has no repository.

    Raises:
        RepositoryError: it cannot be loaded so.
    """
    log.info("loading the model without its repository, as the image will")
    with temporary_folder("flops-fl-model-") as away:
        done = subprocess.run(
            [sys.executable, "-c", _LOADS, str(folder)],
            cwd=away, capture_output=True, text=True, check=False,
            env={**os.environ, "GIT_PYTHON_REFRESH": "quiet"},
        )  # fmt: skip
    if done.returncode:
        why = done.stderr.strip().rpartition("\n")[2]
        raise RepositoryError(
            f"the model cannot be loaded without its repository ({why}): its code may read files "
            "when it is imported, which a model in MLflow does not have",
            stage="get_model",
            traceback=done.stderr,
        )
    return frozenset(json.loads(done.stdout.splitlines()[-1]))


def _settle(folder: Path) -> None:
    """Take out of a model's files what differs each time that they are written."""
    file = folder / "MLmodel"
    said = yaml.safe_load(file.read_text("utf-8"))
    kept = {key: value for key, value in said.items() if key not in _OF_THE_MOMENT}
    for artifact in kept["flavors"]["python_function"].get("artifacts", {}).values():
        artifact["uri"] = artifact["path"]  # where it was, in a temporary folder
    file.write_text(yaml.safe_dump(kept), "utf-8")
    for packed in folder.rglob("*.keras"):
        with zipfile.ZipFile(packed) as archive:
            content = {name: archive.read(name) for name in archive.namelist()}
        notes = json.loads(content["metadata.json"])
        content["metadata.json"] = json.dumps({**notes, "date_saved": ""}).encode()
        content["config.json"] = _numbered(content["config.json"])
        with zipfile.ZipFile(packed, "w") as archive:
            for name, data in content.items():
                archive.writestr(zipfile.ZipInfo(name), data)  # of 1980


def _numbered(config: bytes) -> bytes:
    """The config of a keras model, where it names shared objects by their place in memory."""
    numbers: dict[bytes, int] = {}

    def number(found: re.Match[bytes]) -> bytes:
        return found[1] + str(numbers.setdefault(found[2], len(numbers))).encode()

    return re.sub(rb'("shared_object_id": )(\d+)', number, config)
