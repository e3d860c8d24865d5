"""What an actor may be called, and the URI by which its certificate says it. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal, get_args
from urllib.parse import quote, unquote

Role = Literal["aggregator", "learner", "cluster", "data", "device"]
ROLES: tuple[Role, ...] = get_args(Role)
DIALLED: tuple[Role, ...] = ("aggregator", "cluster", "data")
"""The roles that listen, whose certificates name the hosts that they are dialled by."""

COMMON_NAME_BYTES = 64  # RFC 5280, ub-common-name, as the cryptography package counts it
EXPECTED = "expected 1 to 128 letters, digits or _.@:+=-"
_NAME = re.compile(r"[\w.@:+=-]{1,128}")
_NUMBERED = re.compile(r"flower-\d+")
_URI = re.compile(rf"flops://({'|'.join(ROLES)})/([^/?#]+)")


@dataclass(frozen=True, kw_only=True, slots=True)
class Holder:
    """Whom a certificate is for: a learner by its id, an aggregator by what it is dialled by."""

    name: str
    role: Role
    hosts: tuple[str, ...] = ()  # names and addresses without a port, IPv6 without brackets

    @property
    def uri(self) -> str:
        """The name as certificates can have it, whatever its length and letters."""
        return f"flops://{self.role}/{quote(self.name, safe='')}"

    def __str__(self) -> str:
        at = f" at {', '.join(self.hosts)}" if self.hosts else ""
        return f"{self.role} {self.name}{at}"


def is_name(text: str) -> bool:
    """Whether a learner may be called that."""
    return _NAME.fullmatch(text) is not None


def is_numbered(name: str) -> bool:
    """Whether it is what Flower's clients without a name are called."""
    return _NUMBERED.fullmatch(name) is not None


def read_uri(uri: str) -> tuple[Role, str] | None:
    """Role and name that `Holder.uri` was made of; None for a URI of another kind."""
    found = _URI.fullmatch(uri)
    if found is None:
        return None
    role = next(role for role in ROLES if role == found.group(1))
    return role, unquote(found.group(2))


@contextmanager
def reading_x509() -> Iterator[None]:
    """Raise a ValueError for whatever cannot be read: not all errors of cryptography are one."""
    from cryptography import exceptions, x509

    try:
        yield
    except (
        exceptions.UnsupportedAlgorithm,
        x509.DuplicateExtension,
        x509.InvalidVersion,
        x509.UnsupportedGeneralNameType,
    ) as error:
        raise ValueError(str(error)) from error
