"""Certificate authorities for tests, and what they sign: good, expired, for another host."""

import datetime
import ipaddress

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

HERE = ("localhost", "127.0.0.1")


class Authority:
    """Writes NAME.pem and NAME.key into a folder; its own, too."""

    def __init__(self, folder, name="authority"):
        self.folder, self.name = folder, name
        self._own = None
        self._own = self.sign(name)

    def sign(self, name, *, common=None, hosts=(), uris=(), days=1):
        """A certificate for `name`, which ends in `days`; the authority's own if it has none."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = _subject(name if common is None else common)
        now = datetime.datetime.now(datetime.UTC)
        issuer, issuer_key = self._own or (subject, key)
        known = [*map(_host, hosts), *map(x509.UniformResourceIdentifier, uris)]
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(issuer)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=10))
            .not_valid_after(now + datetime.timedelta(days=days))
            .add_extension(
                x509.BasicConstraints(ca=self._own is None, path_length=None), critical=True
            )
        )
        if known:
            builder = builder.add_extension(x509.SubjectAlternativeName(known), critical=False)
        certificate = builder.sign(issuer_key, hashes.SHA256())
        pem = certificate.public_bytes(serialization.Encoding.PEM)
        (self.folder / f"{name}.pem").write_bytes(pem)
        (self.folder / f"{name}.key").write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )
        return subject, key

    def options(self, name, authority=None):
        """--tls-cert, --tls-key and --tls-ca with the files of `name`."""
        ca = self.folder / f"{authority or self.name}.pem"
        cert, key = self.folder / f"{name}.pem", self.folder / f"{name}.key"
        return ["--tls-cert", cert, "--tls-key", key, "--tls-ca", ca]


def _subject(name):
    return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)] if name else [])


def _host(text):
    try:
        return x509.IPAddress(ipaddress.ip_address(text))
    except ValueError:
        return x509.DNSName(text)


@pytest.fixture
def authority(tmp_path):
    """An authority with a server's certificate, in tmp_path."""
    signing = Authority(tmp_path)
    signing.sign("server", hosts=HERE)
    return signing


@pytest.fixture
def pki(authority):
    """The options of `server`, `learner-a`, `learner-b`; a `stranger` made its own authority."""
    for name in ("learner-a", "learner-b"):
        authority.sign(name, hosts=[name])
    Authority(authority.folder, "stranger")
    return authority.options
