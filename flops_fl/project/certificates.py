"""A script that makes the certificates of a federation's services, where an operator runs it."""

from __future__ import annotations

from collections.abc import Iterable
from shlex import quote

from flops_fl.project.services import Service

SCRIPT = "certificates.sh"
AUTHORITY = "pki/ca.pem"
DEVICE = "device"

_HEAD = """#!/bin/sh
# Makes the authority of this federation and a certificate for each of its containers, which needs
# flops-fl on this machine. What is there already stays. Whoever has pki/ca.key can let anybody in.
set -eu
cd "$(dirname "$0")"
mkdir -p keys
chmod 700 keys
enroll() {
    test -e "pki/signed/$1.pem" || flops-fl pki enroll "$@" --out keys >/dev/null
}
"""


def certificate(name: str) -> str:
    """Where the script puts a service's certificate."""
    return f"pki/signed/{name}.pem"


def key(name: str) -> str:
    """Where the script puts a service's key."""
    return f"keys/{name}.key"


def script(services: Iterable[Service], end: str) -> str:
    """The script; `end` are its last lines.

    It also makes a certificate for a device, which may put data on the data servers.
    """
    lines = []
    for each in services:
        hosts = f" --host {','.join(each.hosts)}" if each.hosts else ""
        lines.append(f"enroll {quote(each.name)} --role {each.role}{hosts}")
    return "\n".join([_HEAD.rstrip(), *lines, f"enroll {DEVICE} --role device", end])
