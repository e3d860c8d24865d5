"""Options of ``flops-fl pki``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Self

from pydantic import AfterValidator, Field, model_validator

from flops_fl.net.identity import COMMON_NAME_BYTES, DIALLED, Holder, Role
from flops_fl.options.common import Options
from flops_fl.options.described import NETWORK, RESULTS, option
from flops_fl.options.kinds import ActorName, Hosts

AUTHORITY, AUTHORITY_FOLDER = "flops-fl authority", Path("pki")
AUTHORITY_DAYS, DAYS = 3650, 365
Days = Annotated[int, Field(ge=1, le=36500)]

_HOST = "names and addresses by which learners reach the aggregator or data server, with commas"


def _common_name(text: str) -> str:
    if not (text.isprintable() and 0 < len(text.encode()) <= COMMON_NAME_BYTES):
        raise ValueError(f"expected 1 to {COMMON_NAME_BYTES} bytes of printable text")
    return text


class PkiOptions(Options):
    """Options of all its commands: where the authority is, and what is printed."""

    ca: Path = option("the authority's folder", NETWORK, AUTHORITY_FOLDER, metavar="FOLDER")
    json_: bool = option("print a JSON document instead of sentences", RESULTS, False, alias="json")


class InitOptions(PkiOptions):
    """Options of ``flops-fl pki init``."""

    name: Annotated[str, AfterValidator(_common_name)] = option(
        "the authority's name in certificates", NETWORK, AUTHORITY, metavar="NAME"
    )
    days: Days = option(
        "days that the authority's certificate is valid, from now on",
        NETWORK,
        AUTHORITY_DAYS,
        metavar="N",
    )


class _HolderOptions(Options):
    name: ActorName = option(
        "a learner's id, or the name of an aggregator's files",
        NETWORK,
        metavar="NAME",
        positional=True,
    )
    role: Role = option("what the certificate is for", NETWORK)
    host: Hosts = option(_HOST, NETWORK, [], metavar="HOST", repeated=True)

    @model_validator(mode="after")
    def _fitting(self) -> Self:
        _require_hosts(self.role, self.host)
        return self

    @property
    def holder(self) -> Holder:
        """Whom the certificate will be for."""
        return Holder(name=self.name, role=self.role, hosts=tuple(dict.fromkeys(self.host)))


class RequestOptions(_HolderOptions):
    """Options of ``flops-fl pki request``."""

    out: Path = option("where to write NAME.key and NAME.csr", RESULTS, Path(), metavar="FOLDER")
    json_: bool = option("print a JSON document instead of sentences", RESULTS, False, alias="json")


class SignOptions(PkiOptions):
    """Options of ``flops-fl pki sign``."""

    request: Path = option(
        "the file NAME.csr, as it was sent", NETWORK, metavar="FILE", positional=True
    )
    name: ActorName | None = option(
        "whom you let in; without --name and --role, the command only shows what the request "
        "asks for",
        NETWORK,
        None,
        metavar="NAME",
    )
    role: Role | None = option("what the certificate is for", NETWORK, None)
    host: Hosts = option(_HOST, NETWORK, [], metavar="HOST", repeated=True)
    days: Days = option(
        "days that the certificate is valid, from now on", NETWORK, DAYS, metavar="N"
    )

    @model_validator(mode="after")
    def _fitting(self) -> Self:
        if self.role is not None:
            _require_hosts(self.role, self.host)
        return self

    @property
    def holder(self) -> Holder | None:
        """Whom the operator lets in; None if that was left to the request."""
        if self.name is None or self.role is None:
            return None
        return Holder(name=self.name, role=self.role, hosts=tuple(dict.fromkeys(self.host)))


class EnrollOptions(_HolderOptions, PkiOptions):
    """Options of ``flops-fl pki enroll``."""

    out: Path = option("where to write NAME.key", RESULTS, Path(), metavar="FOLDER")
    days: Days = option(
        "days that the certificate is valid, from now on", NETWORK, DAYS, metavar="N"
    )


def _require_hosts(role: Role, hosts: list[str]) -> None:
    if role in DIALLED and not hosts:
        raise ValueError(
            f"--role {role} needs --host: the names and addresses that learners dial it by"
        )
    if role not in DIALLED and hosts:
        raise ValueError(
            f"--host {','.join(hosts)} with --role {role}: nobody dials a {role}, leave it out"
        )
