"""The commands of ``flops-fl pki``; each prints what the operator does next."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from shlex import join
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes

from flops_fl.errors import Refused, UsageError
from flops_fl.net.certificates import (
    PublicKey,
    fingerprint,
    new_key,
    pem,
    read_request,
    request_for,
)
from flops_fl.net.identity import EXPECTED, Holder, Role, is_name
from flops_fl.net.tls import KEY_MARK
from flops_fl.options.pki import (
    AUTHORITY,
    AUTHORITY_DAYS,
    AUTHORITY_FOLDER,
    EnrollOptions,
    InitOptions,
    RequestOptions,
    SignOptions,
)
from flops_fl.pki.folder import AuthorityFolder, key_written, read, require_absent, until, write
from flops_fl.text import sentence

Facts = dict[str, Any]


def init(options: InitOptions) -> int:
    """Make an authority."""
    folder = AuthorityFolder(options.ca)
    made = folder.make(options.name, options.days)
    facts: Facts = {"key": str(folder.key), **_facts(folder.certificate, made.certificate)}
    lines = [
        f"{folder.certificate}: the authority {options.name}, until {until(made.certificate)}, "
        f"SHA-256 {facts['sha256']}",
        f"{folder.key}: its key, which signs whom you let in. Keep it here, and keep a copy safe",
    ]
    commands = [
        join(["flops-fl", "pki", "request", "NAME", "--role", "learner"]),
        join(["flops-fl", "pki", "request", "NAME", "--role", "aggregator", "--host", "HOST"]),
    ]
    return _say(options.json_, facts, lines, "on each machine", commands)


def request(options: RequestOptions) -> int:
    """Make a key and a request to sign it."""
    holder = options.holder
    key, asked = options.out / f"{holder.name}.key", options.out / f"{holder.name}.csr"
    require_absent(key, asked)
    private = new_key()
    with key_written(key, private):
        write(asked, pem(request_for(holder, private)))
    facts: Facts = {
        **_holder(holder),
        "key": str(key),
        "request": str(asked),
        "key_sha256": fingerprint(private.public_key()),
    }
    lines = [
        f"{key}: the key, which never leaves this machine",
        f"{asked}: asks for {holder}, key SHA-256 {facts['key_sha256']}",
    ]
    where = f"copy {asked} to the authority's machine, and there"
    return _say(options.json_, facts, lines, where, [_sign_command(Path(asked.name), holder)])


def sign(options: SignOptions) -> int:
    """Sign a request, if it asks for what the operator has named."""
    key, holder = _agreed(options)
    folder = AuthorityFolder(options.ca)
    certificate = folder.issue(holder, key, options.days)
    path = folder.signed(holder.name)
    facts: Facts = {**_holder(holder), **_facts(path, certificate), "key_sha256": fingerprint(key)}
    lines = [
        f"{path}: {_shown(holder)}, until {until(certificate)}, serial number {facts['serial']}, "
        f"key SHA-256 {facts['key_sha256']}"
    ]
    where = f"copy {path} and {folder.certificate} to where {holder.name}.key is, and there"
    command = _actor_command(
        holder, Path(f"{holder.name}.key"), Path(path.name), Path(folder.certificate.name)
    )
    return _say(options.json_, facts, lines, where, [command])


def enroll(options: EnrollOptions) -> int:
    """Make a key and its certificate on one machine, and an authority if there is none."""
    holder, folder = options.holder, AuthorityFolder(options.ca)
    key, path = options.out / f"{holder.name}.key", folder.signed(holder.name)
    require_absent(key)
    lines = []
    if not folder.exists():
        made = folder.make(AUTHORITY, AUTHORITY_DAYS)
        lines.append(f"{folder.certificate}: a new authority, until {until(made.certificate)}")
    private = new_key()
    with key_written(key, private):
        certificate = folder.issue(holder, private.public_key(), options.days)
    facts: Facts = {
        **_holder(holder),
        "key": str(key),
        "ca": str(folder.certificate),
        **_facts(path, certificate),
        "key_sha256": fingerprint(private.public_key()),
    }
    lines += [
        f"{key}: the key",
        f"{path}: {_shown(holder)}, until {until(certificate)}, serial number {facts['serial']}",
    ]
    command = _actor_command(holder, key, path, folder.certificate)
    return _say(options.json_, facts, lines, "here", [command])


def _agreed(options: SignOptions) -> tuple[PublicKey, Holder]:
    """The key and the holder of a request, if the operator has named the same holder.

    Raises:
        UsageError: the file is no request, or the operator has named no holder.
        Refused: the request asks for another holder.
    """
    path, said = options.request, options.holder
    content = read(path)
    if KEY_MARK in content:
        raise UsageError(
            f"{path} holds a private key, which stays where it was made: give NAME.csr"
        )
    try:
        key, name, role, hosts = read_request(content, str(path))
    except ValueError:
        raise UsageError(
            f"{path} holds no request to sign: expected the NAME.csr of flops-fl pki request"
        ) from None
    if not is_name(name):
        raise Refused(f"{path} asks for the name {sentence(name, 80)!r}: {EXPECTED}")
    asked = Holder(
        name=name, role=role or (said.role if said else "learner"), hosts=tuple(sorted(hosts))
    )
    if said is None:
        raise UsageError(
            f"{path} asks for {_shown(asked)}, key SHA-256 {fingerprint(key)}: if you want to let "
            f"it in, run: {_sign_command(path, asked, options.ca)}"
        )
    if (asked.name, asked.role, set(hosts)) != (said.name, said.role, set(said.hosts)):
        raise Refused(
            f"{path} asks for {_shown(asked)}, and you said {_shown(said)}: give the options that "
            "it asks for if you want to let it in, or have another request made"
        )
    return key, said


def _sign_command(path: Path, holder: Holder, ca: Path = AUTHORITY_FOLDER) -> str:
    words = ["flops-fl", "pki", "sign", str(path), "--role", holder.role, "--name", holder.name]
    words += ["--host", ",".join(holder.hosts)] if holder.hosts else []
    return join(words if ca == AUTHORITY_FOLDER else [*words, "--ca", str(ca)])


def _actor_command(holder: Holder, key: Path, certificate: Path, ca: Path) -> str:
    anywhere = "[::]" if any(":" in host for host in holder.hosts) else "0.0.0.0"
    tls = ["--tls-cert", certificate, "--tls-key", key, "--tls-ca", ca]
    commands: dict[Role, list[str]] = {
        "learner": [
            *("python", "-m", "learner", "REPO", "--aggregator", "HOST:8080", "--data", "FOLDER")
        ],
        "aggregator": ["python", "-m", "aggregator", "REPO", "--listen", f"{anywhere}:8080"],
        "data": ["flops-fl", "data", "serve", "--dir", "FOLDER", "--listen", f"{anywhere}:11027"],
        "device": [
            *(
                "flops-fl",
                "data",
                "put",
                "FILE",
                "--tag",
                "TAG",
                "--server",
                "grpc+tls://HOST:11027",
            )
        ],
    }
    commands["cluster"] = [*commands["aggregator"], "--role", "cluster", "--root", "HOST:8080"]
    return join([*commands[holder.role], *map(str, tls)])


def _shown(holder: Holder) -> str:
    """The holder as text; a name with letters beyond ASCII, which may look alike, is spelt out."""
    spelt = "" if holder.name.isascii() else f" (spelt {holder.name!a})"
    return sentence(f"{holder}{spelt}", 2000)


def _holder(holder: Holder) -> Facts:
    return {"name": holder.name, "role": holder.role, "hosts": list(holder.hosts)}


def _facts(path: Path, certificate: x509.Certificate) -> Facts:
    return {
        "certificate": str(path),
        "serial": f"{certificate.serial_number:x}",
        "not_after": certificate.not_valid_after_utc.isoformat(),
        "sha256": certificate.fingerprint(hashes.SHA256()).hex(":"),
    }


def _say(document: bool, facts: Facts, lines: list[str], where: str, commands: list[str]) -> int:
    if document:
        sys.stdout.write(json.dumps({**facts, "next": commands}, indent=2) + "\n")
    else:
        steps = [f"next, {where}:", *(f"  {command}" for command in commands)]
        sys.stdout.write("\n".join([*lines, *steps]) + "\n")
    return 0
