"""Keys, authorities and what they sign: X.509 (RFC 5280) with EC P-256, nothing on disk."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TypeAlias

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from flops_fl.errors import Refused
from flops_fl.net.identity import COMMON_NAME_BYTES, Holder, Role, read_uri, reading_x509
from flops_fl.text import sentence

PrivateKey: TypeAlias = ec.EllipticCurvePrivateKey
PublicKey: TypeAlias = ec.EllipticCurvePublicKey

USAGES = {
    "aggregator": {ExtendedKeyUsageOID.SERVER_AUTH},
    "learner": {ExtendedKeyUsageOID.CLIENT_AUTH},
    "cluster": {ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH},
    "data": {ExtendedKeyUsageOID.SERVER_AUTH},
    "device": {ExtendedKeyUsageOID.CLIENT_AUTH},
}
"""What a certificate of each role is for; a cluster aggregator dials its root, too."""
_MAKE = "make it with flops-fl pki request"
_KEY_USES = (
    "digital_signature", "content_commitment", "key_encipherment", "data_encipherment",
    "key_agreement", "key_cert_sign", "crl_sign", "encipher_only", "decipher_only",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Authority:
    """A certificate that signs others, and its key."""

    certificate: x509.Certificate
    key: PrivateKey

    @classmethod
    def create(cls, name: str, begin: datetime, end: datetime) -> Authority:
        """A new one, which signs itself; those that it signs cannot sign."""
        key = new_key()
        builder = (
            _builder(key.public_key(), _subject(name), begin, end)
            .issuer_name(_subject(name))
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_key_usage("key_cert_sign", "crl_sign"), critical=True)
        )
        return cls(builder.sign(key, hashes.SHA256()), key)

    def sign(
        self,
        key: PublicKey,
        *,
        common: str,
        names: Iterable[x509.GeneralName],
        roles: Iterable[Role],
        begin: datetime,
        end: datetime,
    ) -> x509.Certificate:
        """A certificate with these names, fit for these roles."""
        usages = set[x509.ObjectIdentifier]().union(*(USAGES[role] for role in roles))
        subject, names = _subject(common), list(names)
        builder = (
            _builder(key, subject, begin, end)
            .issuer_name(self.certificate.subject)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_key_usage("digital_signature"), critical=True)
            .add_extension(x509.ExtendedKeyUsage(sorted(usages, key=str)), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key()),
                critical=False,
            )
        )
        if names:  # critical where there is no other name: RFC 5280, 4.2.1.6
            builder = builder.add_extension(
                x509.SubjectAlternativeName(names), critical=not list(subject)
            )
        return builder.sign(self.key, hashes.SHA256())

    def sign_for(
        self, holder: Holder, key: PublicKey, begin: datetime, end: datetime
    ) -> x509.Certificate:
        """The certificate of an actor."""
        return self.sign(
            key,
            common=_common(holder),
            names=_names(holder),
            roles=[holder.role],
            begin=begin,
            end=end,
        )


def new_key() -> PrivateKey:
    """A new private key."""
    return ec.generate_private_key(ec.SECP256R1())


def key_pem(key: PrivateKey) -> bytes:
    """A private key as it stands in its file, without a passphrase: nobody could type one."""
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def pem(signed: x509.Certificate | x509.CertificateSigningRequest) -> bytes:
    """A certificate or a request as it stands in its file."""
    return signed.public_bytes(serialization.Encoding.PEM)


def fingerprint(key: PublicKey) -> str:
    """SHA-256 of a public key, by which people compare it on the telephone."""
    digest = hashes.Hash(hashes.SHA256())
    digest.update(
        key.public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )
    )
    return digest.finalize().hex(":", 2)


def request_for(holder: Holder, key: PrivateKey) -> x509.CertificateSigningRequest:
    """What an actor asks an authority to sign (PKCS #10)."""
    return (
        x509.CertificateSigningRequestBuilder()
        .subject_name(_subject(_common(holder)))
        .add_extension(x509.SubjectAlternativeName(_names(holder)), critical=False)
        .sign(key, hashes.SHA256())
    )


@reading_x509()
def read_request(content: bytes, path: str) -> tuple[PublicKey, str, Role | None, tuple[str, ...]]:
    """What a request asks for: key, name, role (None if it does not say), hosts.

    Raises:
        ValueError: it is no request (PEM).
        Refused: what it asks for is not to be signed, whoever asks.
    """
    request = x509.load_pem_x509_csr(content)
    key = request.public_key()
    if not (isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, ec.SECP256R1)):
        raise Refused(f"{path} has a key of another kind than EC P-256: {_MAKE}")
    if not request.is_signature_valid:
        raise Refused(f"{path} is not signed by the key that it asks for: {_MAKE}")
    names = [
        str(name.value) for name in request.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    ]
    hosts, roles = [], []
    for entry in _asked(request):
        uri = read_uri(entry.value) if isinstance(entry, x509.UniformResourceIdentifier) else None
        if uri is not None:
            roles.append(uri[0])
            names.append(uri[1])
        elif isinstance(entry, x509.DNSName | x509.IPAddress):
            hosts.append(str(entry.value))
        else:
            shown = sentence(str(entry.value), 80)
            raise Refused(f"{path} asks for {shown!r}, a name that no actor has: {_MAKE}")
    if len(set(names)) != 1 or len(set(roles)) > 1:
        shown = sentence(", ".join(dict.fromkeys(names)), 80) or "no name"
        raise Refused(f"{path} asks for {shown}, expected one name and one role: {_MAKE}")
    return key, names[0], roles[0] if roles else None, tuple(hosts)


def _asked(request: x509.CertificateSigningRequest) -> Sequence[x509.GeneralName]:
    try:
        found = request.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except x509.ExtensionNotFound:
        return []
    return list(found.value)


def _common(holder: Holder) -> str:
    return holder.name if len(holder.name.encode()) <= COMMON_NAME_BYTES else ""


def _names(holder: Holder) -> list[x509.GeneralName]:
    return [x509.UniformResourceIdentifier(holder.uri), *map(host_name, holder.hosts)]


def host_name(host: str) -> x509.GeneralName:
    """A host as certificates have it: an address, or a name."""
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _subject(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)] if common else [])


def _builder(
    key: PublicKey, subject: x509.Name, begin: datetime, end: datetime
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(begin)
        .not_valid_after(end)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _key_usage(*uses: str) -> x509.KeyUsage:
    return x509.KeyUsage(**{use: use in uses for use in _KEY_USES})
