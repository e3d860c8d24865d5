"""TLS in one place: what both ends show and whom they trust, and what a certificate's names are."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from flops_fl.errors import UsageError

if TYPE_CHECKING:
    import grpc


@dataclass(frozen=True, kw_only=True, slots=True)
class Tls:
    """The own certificate with its key, and whose certificates the other side may show. PEM.

    A dialler without `ca` trusts the authorities that gRPC brings. A listener with `ca` lets
    nobody in without a certificate.
    """

    certificate: bytes | None = None
    key: bytes | None = None
    ca: bytes | None = None

    @classmethod
    def read(cls, certificate: Path | None, key: Path | None, ca: Path | None) -> Tls:
        """Read the files.

        Raises:
            UsageError: one cannot be read.
        """
        return cls(certificate=_content(certificate), key=_content(key), ca=_content(ca))

    @property
    def names(self) -> list[str]:
        """The names in the own certificate; none without one."""
        return names_in(self.certificate) if self.certificate else []

    # gRPC is imported late: the options know this class, too.

    def for_dialling(self) -> grpc.ChannelCredentials:
        """What a channel needs."""
        from grpc import ssl_channel_credentials

        return ssl_channel_credentials(self.ca, self.key, self.certificate)

    def for_listening(self) -> grpc.ServerCredentials:
        """What a server needs."""
        from grpc import ssl_server_credentials

        pair = [(self.key, self.certificate)]
        return ssl_server_credentials(pair, self.ca, require_client_auth=self.ca is not None)


def names_in(certificate: bytes) -> list[str]:
    """The names that a certificate (PEM) gives its holder: common name, DNS names, URIs.

    Both ends go by this one rule: a learner is called by the first, and may call itself by any.
    """
    from cryptography import x509

    found = x509.load_pem_x509_certificate(certificate)
    common = found.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)
    names = [str(name.value) for name in common]
    try:
        others = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return names
    for kind in (x509.DNSName, x509.UniformResourceIdentifier):
        names += others.get_values_for_type(kind)
    return list(dict.fromkeys(name for name in names if name))


def _content(path: Path | None) -> bytes | None:
    try:
        return path.read_bytes() if path else None
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}") from None
