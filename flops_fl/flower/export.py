"""Write the Flower app of an ML repository, for `flwr run`."""

from __future__ import annotations

import json
import logging
import re
import shutil
import sys
from collections.abc import Iterator, Mapping
from contextlib import closing, redirect_stdout
from functools import partial
from pathlib import Path
from typing import Any

from flops_fl import __version__
from flops_fl.core.seeding import seed_build
from flops_fl.errors import RepositoryError, UsageError
from flops_fl.flower.building import require_known, strategy_for
from flops_fl.options.aggregator import AggregatorOptions
from flops_fl.options.federation import FederationOptions, FlowerExportOptions
from flops_fl.process.files import atomic, why
from flops_fl.repo.contract import ManagedModel
from flops_fl.repo.source import Checkout, checkout

log = logging.getLogger(__name__)

REPO_FOLDER = "ml_repository"
"""The repository's folder in the app; at the app's top Flower leaves out names such as lib."""

SOURCE, COMMIT = "repo-source", "repo-commit"
"""Further entries of the run config: where the repository came from."""

_MARK = "# A Flower app, written by flops-fl flower export.\n"
_LONGEST_NAME = 32  # characters; Flower's limit
_BUNDLED = {".py", ".toml", ".md", ".yaml", ".yml", ".json", ".jsonl"}  # that Flower puts in a FAB
_LEFT_OUT = (".git", ".venv", "__pycache__", "*.pyc", "runs", ".ipynb_checkpoints")
_NOT_IN_APP = ("repo", "json_", "min_clients")


def export(options: FlowerExportOptions) -> list[Path]:
    """Write the app.

    Returns:
        The repository's files that Flower will not bundle.

    Raises:
        FlopsError: there is no repository, no such strategy, or the folder holds something else or
            cannot be written.
    """
    # This checks the options now; otherwise the mistake would show on the SuperLink only.
    told, out = options.for_aggregator(), options.out
    require_known(options.strategy)
    with checkout(options.repo, options.clone_timeout) as repo:
        _try_strategy(told, repo.path)
        target = out / REPO_FOLDER
        try:
            _clear(out)
            shutil.copytree(repo.path, target, ignore=shutil.ignore_patterns(*_LEFT_OUT))
            with atomic(out / "pyproject.toml") as file:
                file.write((_MARK + _pyproject(options, repo)).encode())
            with atomic(out / ".gitignore") as file:
                file.write(b"runs/\nbuild/\n*.egg-info/\n*.fab\n")
        except OSError as error:
            shutil.rmtree(target, ignore_errors=True)  # so that the folder can be given again
            raise UsageError(
                f"--out {out}: the app cannot be written ({why(error)}): make room there, or give "
                "another folder"
            ) from error
    files = (path for path in target.rglob("*") if path.is_file())
    return sorted(path for path in files if path.suffix not in _BUNDLED)


def _try_strategy(options: AggregatorOptions, repo: Path) -> None:
    """Build the strategy for the repository's model, as the ServerApp will.

    Raises:
        UsageError: it cannot be built.
    """
    with redirect_stdout(sys.stderr):  # stdout is for the command's own answer
        try:
            model = ManagedModel(repo, before_build=partial(seed_build, options.seed))
        except RepositoryError as error:  # its packages may be installed on the nodes only
            log.warning("the model cannot be built here, so its strategy is not tried: %s", error)
            return
        with closing(model):
            told = options.cohort | options.strategy_option
            strategy_for(model, options.strategy, told, seed=options.seed)


def _clear(out: Path) -> None:
    """Remove an earlier export but not its runs, and refuse any other folder."""
    if not out.exists():
        out.mkdir(parents=True)
        return
    project = out / "pyproject.toml"
    ours = project.is_file() and project.read_text().startswith(_MARK)
    if not out.is_dir() or (any(out.iterdir()) and not ours):
        raise UsageError(
            f"--out {out}: the folder holds something else; give an empty or a new folder"
        )
    shutil.rmtree(out / REPO_FOLDER, ignore_errors=True)


def _pyproject(options: FlowerExportOptions, repo: Checkout) -> str:
    name = re.sub(r"[^A-Za-z0-9-]+", "-", options.project_id or repo.name).strip("-")[
        :_LONGEST_NAME
    ]
    if not name[:1].isalpha():
        name = f"app-{name}"[:_LONGEST_NAME]
    lines = [
        "[project]",
        f"name = {_toml(name)}",
        f"version = {_toml(__version__)}",
        'description = "Federated training of an ML repository by flops-fl"',
        'license = "Apache-2.0"',
        "# Install flops-fl and what the repository imports where the SuperLink and the SuperNodes",
        "# run. This list is empty, since Flower would install its packages again for each run.",
        "dependencies = []",
        "",
        "# For pip install: without this list it takes the folders of runs for packages and fails.",
        "[tool.setuptools]",
        "packages = []",
        "",
        "[tool.flwr.app]",
        'publisher = "flops-fl"',
        "",
        "[tool.flwr.app.components]",
        'serverapp = "flops_fl.actors.flower_app:server_app"',
        'clientapp = "flops_fl.actors.flower_app:client_app"',
        "",
        "# Options of `flops-fl simulate --help`; an empty text means that it is not given. A",
        "# relative output is below the folder in which the SuperLink was started.",
        "[tool.flwr.app.config]",
        *(f"{key} = {_toml(value)}" for key, value in _run_config(options, repo)),
        f"{SOURCE} = {_toml(repo.source)}",
        f"{COMMIT} = {_toml(repo.commit or '')}",
    ]
    return "\n".join(lines) + "\n"


def _run_config(options: FlowerExportOptions, repo: Checkout) -> Iterator[tuple[str, Any]]:
    for field, info in FederationOptions.model_fields.items():
        if field in _NOT_IN_APP:
            continue
        value = getattr(options, field)
        if field == "min_available_clients" and field not in options.model_fields_set:
            value = None  # so that the app derives it from the number of learners
        if field == "project_id":
            value = value or repo.name
        yield (info.alias or field).replace("_", "-"), value


def _toml(value: Any) -> str:
    """A value as TOML; JSON's strings are valid basic strings of TOML."""
    if isinstance(value, Mapping):
        value = ",".join(f"{key}={entry}" for key, entry in value.items())
    if isinstance(value, str | Path) or value is None:
        return json.dumps(str(value or ""), ensure_ascii=False)
    return json.dumps(value)
