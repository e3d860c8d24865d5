"""TLS for both ends: own certificate and key, trusted authorities, and names in certificates."""

from __future__ import annotations

import datetime
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from flops_fl.errors import Refused, UsageError
from flops_fl.net.identity import Role, read_uri, reading_x509

if TYPE_CHECKING:
    import grpc
    from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
    from cryptography.x509 import Certificate

KEY_MARK, CERTIFICATE_MARK = b"PRIVATE KEY-----", b"BEGIN CERTIFICATE-----"  # in PEM


@dataclass(frozen=True, kw_only=True, slots=True)
class Tls:
    """One side's certificate and key, and the authority it trusts. All are PEM.

    A client without `ca` trusts gRPC's built-in authorities. A server with `ca` lets in only
    clients whose certificate that authority has signed.
    """

    certificate: bytes | None = None
    key: bytes | None = None
    ca: bytes | None = None

    @classmethod
    def read(
        cls,
        certificate: Path | None,
        key: Path | None,
        ca: Path | None,
        role: Role | None = None,
    ) -> Tls:
        """Read and check the files of --tls-cert, --tls-key and --tls-ca.

        Raises:
            UsageError: a file cannot be read, or does not hold a certificate or key.
            Refused: certificate and key do not belong together, the certificate has expired or is
                not valid yet, or it is for another role.
        """
        tls = cls(certificate=_content(certificate), key=_content(key), ca=_content(ca))
        if tls.ca is not None:
            trusted = _certificates(tls.ca, f"--tls-ca {ca}")
            if len(trusted) == 1:
                _require_time(trusted[0], f"--tls-ca {ca}")
        if tls.certificate is not None and tls.key is not None:
            own, its = f"--tls-cert {certificate}", f"--tls-key {key}"
            leaf, _ = load_pair(tls.certificate, tls.key, own, its)
            _require_time(leaf, own)
            if role is not None:
                _require_role(leaf, role, own)
        return tls

    @property
    def names(self) -> list[str]:
        """The names in this side's certificate; empty without one."""
        return names_in(self.certificate) if self.certificate else []

    # gRPC is imported late because options import this class, and --help must be fast.

    def for_dialling(self) -> grpc.ChannelCredentials:
        """Credentials for a gRPC channel."""
        from grpc import ssl_channel_credentials

        return ssl_channel_credentials(self.ca, self.key, self.certificate)

    def for_flight(self) -> dict[str, bytes]:
        """Arguments of pyarrow's Flight client, which has a gRPC of its own."""
        files = {
            "tls_root_certs": self.ca,
            "cert_chain": self.certificate,
            "private_key": self.key,
        }
        return {name: content for name, content in files.items() if content is not None}

    def for_listening(self) -> grpc.ServerCredentials:
        """Credentials for a gRPC server."""
        from grpc import ssl_server_credentials

        pair = [(self.key, self.certificate)]
        return ssl_server_credentials(pair, self.ca, require_client_auth=self.ca is not None)


def own_name(tls: Tls | None) -> str:
    """What an actor is called if nobody says so: by its certificate, else by its host."""
    return [*(tls.names if tls else []), socket.gethostname()][0]


def names_in(certificate: bytes) -> list[str]:
    """The names in a certificate (PEM): common name, DNS names, URIs.

    Both ends use this rule. A learner's default id is the first name; it may choose any of them.
    A URI of flops-fl counts as the name that it was made of.
    """
    from cryptography import x509

    found = x509.load_pem_x509_certificate(certificate)
    common = found.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)
    names = [str(name.value) for name in common]
    try:
        others = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return names
    names += others.get_values_for_type(x509.DNSName)
    for uri in others.get_values_for_type(x509.UniformResourceIdentifier):
        ours = read_uri(uri)
        names.append(ours[1] if ours else uri)
    return list(dict.fromkeys(name for name in names if name))


def role_in(certificate: bytes) -> Role | None:
    """The role that a certificate (PEM) of flops-fl names; None if it names none."""
    from cryptography import x509

    found = x509.load_pem_x509_certificate(certificate)
    try:
        names = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return None
    uris = map(read_uri, names.get_values_for_type(x509.UniformResourceIdentifier))
    return next((ours[0] for ours in uris if ours), None)


def hosts_in(certificate: bytes) -> list[str]:
    """The names and addresses that a certificate (PEM) may be dialled by."""
    from cryptography import x509

    found = x509.load_pem_x509_certificate(certificate)
    try:
        names = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return names_in(certificate)
    addresses = names.get_values_for_type(x509.IPAddress)
    return [*names.get_values_for_type(x509.DNSName), *map(str, addresses)]


def _content(path: Path | None) -> bytes | None:
    try:
        return path.read_bytes() if path else None
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}") from None


def _certificates(pem: bytes, option: str) -> Sequence[Certificate]:
    from cryptography import x509

    try:
        with reading_x509():
            return x509.load_pem_x509_certificates(pem)
    except ValueError:
        raise UsageError(f"{option} holds no certificate: expected a PEM file") from None


def _require_whole(certificate: Certificate, option: str) -> None:
    """Parts of a certificate are read when they are asked for: ask."""
    try:
        with reading_x509():
            _ = certificate.public_key(), certificate.subject, certificate.extensions
    except ValueError:
        raise UsageError(f"{option} holds a damaged certificate: copy it again") from None


def load_pair(
    certificate: bytes, key: bytes, own: str, its: str
) -> tuple[Certificate, PrivateKeyTypes]:
    """A certificate and its key (PEM), called `own` and `its` where something is wrong.

    Raises:
        UsageError: one is not what it should be.
        Refused: they do not go together.
    """
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    if KEY_MARK in certificate and CERTIFICATE_MARK not in certificate and CERTIFICATE_MARK in key:
        raise Refused(f"{own} holds the key and {its} the certificate: swap them")
    leaf = _certificates(certificate, own)[0]
    _require_whole(leaf, own)
    try:
        private = load_pem_private_key(key, None)
    except TypeError:  # it needs a passphrase, which nobody could type in a container
        raise UsageError(f"{its} is encrypted: give one without a passphrase") from None
    except ValueError:
        raise UsageError(f"{its} holds no private key: expected a PEM file") from None
    if private.public_key() != leaf.public_key():
        raise Refused(f"{its} is not the key of {own}: give a certificate and its own key")
    return leaf, private


def _require_role(certificate: Certificate, role: Role, option: str) -> None:
    from cryptography import x509
    from cryptography.x509.oid import ExtendedKeyUsageOID

    from flops_fl.net.certificates import USAGES

    try:
        usage = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except x509.ExtensionNotFound:  # good for everything
        return
    if not (USAGES[role] <= set(usage) or ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE in usage):
        raise Refused(
            f"{option} is for another role than {role}: give one signed with --role {role}"
        )


def _require_time(certificate: Certificate, option: str) -> None:
    now = datetime.datetime.now(datetime.UTC)
    begin, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    if now > end:
        raise Refused(f"{option} has expired on {end:%Y-%m-%d %H:%M} UTC: renew it")
    if now < begin:
        raise Refused(
            f"{option} is not valid before {begin:%Y-%m-%d %H:%M} UTC, and this machine's clock "
            f"says {now:%Y-%m-%d %H:%M}: set the clock if it is wrong"
        )
