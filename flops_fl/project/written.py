"""What is written for an orchestrator: the files, and a README that says what to do with them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from shlex import quote
from typing import Any

import yaml

from flops_fl import __version__
from flops_fl.net.address import PLAIN, WITH_TLS
from flops_fl.project.certificates import AUTHORITY, DEVICE, certificate, key
from flops_fl.project.services import Federation
from flops_fl.repo.source import is_url

WIDTH = 100
VARIABLES = (
    "`FLOPS_NOTIFY=mqtts://me:secret@HOST`, or `FLOPS_TRACKING_URI=http://HOST:5000` and "
    "`MLFLOW_TRACKING_PASSWORD=...` for an MLflow server"
)
"""What an aggregator may be told in secret."""


@dataclass(frozen=True, slots=True)
class Written:
    """Files by name."""

    files: Mapping[str, str]
    notes: Sequence[str] = ()
    """What the orchestrator cannot do, a sentence each."""


class _Plain(yaml.SafeDumper):
    """Writes values that occur twice in full, and lists under their key with an indent."""

    def ignore_aliases(self, data: Any) -> bool:
        return True

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        super().increase_indent(flow, False)


def as_yaml(*documents: Any) -> str:
    """Documents as YAML, with a comment at the head."""
    text: str = yaml.dump_all(
        documents, Dumper=_Plain, sort_keys=False, width=WIDTH, allow_unicode=True
    )
    return f"# Written by flops-fl {__version__}: see README.md beside it.\n{text}"


def as_json(document: Any) -> str:
    """A document as JSON."""
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def instructions(
    federation: Federation, needs: str, commands: Sequence[str], notes: Sequence[str]
) -> str:
    """A README: the commands in their order, then what should be known."""
    shown = "\n".join(commands)
    items = "\n".join(f"- {note}" for note in notes)
    images = "\n".join(federation.images.values())
    return (
        f"# {federation.project}\n\nWritten by flops-fl {__version__} for {needs}. The images are "
        f"made by `flops-fl image`:\n\n```\n{images}\n```\n\nIn this folder:\n\n"
        f"```\n{shown}\n```\n\n{items}\n"
    )


def putting(federation: Federation, host: str, *before: str) -> list[str]:
    """The commands by which data come to a data server at `host`, for a README.

    Args:
        before: What is to be done before, if there are data servers at all.
    """
    if not federation.has_data:
        return []
    scheme = WITH_TLS if federation.secure else PLAIN
    tag = quote(next(iter(federation.sla.training.data_tags), "TAG"))
    words = f"flops-fl data put FILE.parquet --tag {tag} --server {scheme}://{host}"
    if not federation.secure:
        return [*before, words + (" --insecure" if not host.startswith("localhost") else "")]
    return [
        *before,
        f"{words} \\",
        f"    --tls-cert {certificate(DEVICE)} --tls-key {key(DEVICE)} --tls-ca {AUTHORITY}",
    ]


def about_data(federation: Federation, where: str) -> list[str]:
    """A note for a README, if there are data servers: where they are, and what needs them."""
    without = "A learner without data ends, and is started again until there are some."
    return [f"{where} {without}"] if federation.has_data else []


def later(federation: Federation) -> list[str]:
    """What a user's post-training steps mean here."""
    sla = federation.sla
    if not sla.builds_image:
        return []
    then = " and start it where the model is to be served" if sla.deploys_image else ""
    repo = sla.ml_repo_url  # a container does not know the folder of which its image was made
    where = "run" if is_url(repo) else f"{quote(repo)} --run run"
    return [
        "The post-training steps are no part of these files, since there is no model yet. When the "
        f"training is over, build its image with `flops-fl image {where} --role inference`{then}."
    ]
