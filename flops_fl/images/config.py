"""What an image says of itself: how it is started, its labels, its small files."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from flops_fl import __version__
from flops_fl.images.base import Base
from flops_fl.images.layers import Layer, Member
from flops_fl.observers import serving
from flops_fl.repo.source import ORIGIN

USER = 10001
"""The number of the user that the actor runs as. Others can write where it writes, too."""
METRICS = "127.0.0.1:9464"
PORT = "8080/tcp"
ENTRYPOINT = ("python", "main.py")
RUNS = "/app/runs"
"""The folder for what an actor writes."""
HEALTH = "/app/health.py"
LISTEN = "0.0.0.0:8080"
INFERENCE = "inference"
"""The role of an image that serves a model."""

_MAIN = '''"""Starts this image's actor, with the arguments of the FLOps manager or with options."""

from flops_fl.manager import main

if __name__ == "__main__":
    main({role!r}, "/app/repo")
'''
_HEALTH = '''"""Whether the actor in this container lives; with /readyz, whether it is ready."""

import os
import sys
import urllib.request

path = sys.argv[1] if len(sys.argv) > 1 else "/healthz"
host, _, port = os.environ["FLOPS_METRICS"].rpartition(":")
if host in ("0.0.0.0", "[::]"):
    host = "127.0.0.1"
try:
    with urllib.request.urlopen(f"http://{host}:{port}{path}", timeout=5):
        pass
except OSError as error:
    sys.exit(f"the actor does not answer, or not well: {error}")
'''


@dataclass(frozen=True, slots=True)
class Origin:
    """From what an image is made."""

    title: str
    source: str
    commit: str
    """Empty outside of Git."""
    time: int
    """Of the commit, in seconds since 1970."""
    lock: str
    """A digest of its packages."""
    flavor: str
    """Of the model, as FLOps calls it; empty if it is not known."""
    run: str = ""
    """The id of the run whose model the image serves."""


def skeleton(base: Base) -> Iterator[Member]:
    """The environment around the packages: a venv, without programs of this machine."""
    python = f"{base.folder}/python{base.python}"
    text = f"home = {base.folder}\ninclude-system-site-packages = false\nversion = {base.python}\n"
    yield Member(path="app/env/pyvenv.cfg", content=text.encode())
    for name in ("python", "python3", f"python{base.python}"):
        yield Member(path=f"app/env/bin/{name}", target=python)


def code(role: str, repo: Path, files: Sequence[Path], origin: Origin) -> Iterator[Member]:
    """The repository's files, what starts its actor, and two folders to write in."""
    said = json.dumps({"source": origin.source, "commit": origin.commit}).encode()
    yield Member(path=f"app/repo/{ORIGIN}", content=said)
    yield Member(path="app/main.py", content=_MAIN.format(role=role).encode())
    yield Member(path=HEALTH[1:], content=_HEALTH.encode())
    yield Member(path=RUNS[1:], mode=0o1777)
    yield from _under("repo", repo, files)


def model_code(model: Path) -> Iterator[Member]:
    """A model's folder as MLflow has written it, and what serves it."""
    health = b'import os\n\nimport main\n\nmain.check(os.environ["FLOPS_LISTEN"])\n'
    yield Member(path="app/main.py", content=Path(serving.__file__))
    yield Member(path=HEALTH[1:], content=health)
    files = [file.relative_to(model) for file in model.rglob("*") if file.is_file()]
    yield from _under("model", model, files)


def _under(name: str, folder: Path, files: Sequence[Path]) -> Iterator[Member]:
    yield Member(path="app/home", mode=0o1777)
    for file in files:
        path = folder / file
        if path.is_symlink():
            yield Member(path=f"app/{name}/{file}", target=os.readlink(path))
        else:
            mode = 0o755 if path.stat().st_mode & 0o100 else 0o644
            yield Member(path=f"app/{name}/{file}", content=path, mode=mode)


def config_of(role: str, base: Base, layers: Sequence[Layer], origin: Origin) -> dict[str, Any]:
    """The image's config, on top of its base's."""
    created = datetime.fromtimestamp(origin.time, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    theirs = base.config.get("config") or {}
    said = {key: value for key, value in theirs.items() if key not in ("Cmd", "ArgsEscaped")}
    said |= {
        "User": f"{USER}:{USER}",
        "WorkingDir": "/app",
        "Entrypoint": list(ENTRYPOINT),
        "Env": _environment(role, theirs.get("Env") or (), origin),
        "Labels": {**(theirs.get("Labels") or {}), **_labels(role, base, origin)},
        # Docker's own field, which containerd, Docker and Podman read; OCI has none.
        "Healthcheck": {
            "Test": ["CMD", "python", HEALTH],
            "Interval": 30 * 10**9,
            "Timeout": 10 * 10**9,
            "StartPeriod": 60 * 10**9,
            "Retries": 3,
        },
    }
    if role != "learner":
        said["ExposedPorts"] = {**(theirs.get("ExposedPorts") or {}), PORT: {}}
    history = [*(base.config.get("history") or ())]
    told = sum(not each.get("empty_layer") for each in history)
    titles = [
        *["base"] * (len(base.config["rootfs"]["diff_ids"]) - told),
        *(x.title for x in layers),
    ]
    history += [{"created": created, "created_by": f"flops-fl image: {x}"} for x in titles]
    machine = {k: base.config[k] for k in ("architecture", "os", "variant") if k in base.config}
    diff_ids = [*base.config["rootfs"]["diff_ids"], *(layer.diff_id for layer in layers)]
    return {
        **machine,
        "created": created,
        "config": said,
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
        "history": history,
    }


def _environment(role: str, theirs: Sequence[str], origin: Origin) -> list[str]:
    values: dict[str, str] = dict(each.partition("=")[::2] for each in theirs)
    path = values.get("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
    values |= {
        "PATH": f"/app/env/bin:{path}",
        "HOME": "/app/home",
        "USER": "flops",  # getpass asks the environment first, and the user has no other name
        "PYTHONUNBUFFERED": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
        **({"FLOPS_LISTEN": LISTEN} if role == INFERENCE else {"FLOPS_METRICS": METRICS}),
    }
    if origin.flavor:
        values["ML_MODEL_FLAVOR"] = origin.flavor
    return [f"{name}={value}" for name, value in values.items()]


def _labels(role: str, base: Base, origin: Origin) -> Mapping[str, str]:
    prefix = "org.opencontainers.image"
    labels = {
        f"{prefix}.title": f"{origin.title} {role}",
        f"{prefix}.source": origin.source,
        f"{prefix}.revision": origin.commit,
        "flops-fl.run": origin.run,
        f"{prefix}.base.name": base.name,
        f"{prefix}.base.digest": base.digest,
        "flops-fl.role": role,
        "flops-fl.version": __version__,
        "flops-fl.flower": version("flwr"),
        "flops-fl.python": base.python,
        "flops-fl.lock": origin.lock,
    }
    return {name: value for name, value in labels.items() if value}
