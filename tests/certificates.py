"""Authorities for tests, and what they sign: good, expired, for another host."""

from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509

from flops_fl.net import certificates
from flops_fl.net.identity import ROLES

HERE = ("localhost", "127.0.0.1")


class Authority:
    """Writes NAME.pem and NAME.key into a folder; its own, too."""

    def __init__(self, folder, name="authority", days=1):
        self.folder, self.name = folder, name
        self._own = certificates.Authority.create(name, *_span(days))
        self._write(name, self._own.certificate, self._own.key)

    def sign(self, name, *, common=None, hosts=(), uris=(), days=1, roles=ROLES):
        """A certificate for `name`, which ends in `days`."""
        key = certificates.new_key()
        begin, end = _span(days)
        names = [
            *map(certificates.host_name, hosts), *map(x509.UniformResourceIdentifier, uris),
        ]  # fmt: skip
        signed = self._own.sign(
            key.public_key(),
            common=name if common is None else common,
            names=names,
            roles=roles,
            begin=begin,
            end=end,
        )
        self._write(name, signed, key)

    def options(self, name, authority=None):
        """--tls-cert, --tls-key and --tls-ca with the files of `name`."""
        ca = self.folder / f"{authority or self.name}.pem"
        cert, key = self.folder / f"{name}.pem", self.folder / f"{name}.key"
        return ["--tls-cert", cert, "--tls-key", key, "--tls-ca", ca]

    def _write(self, name, certificate, key):
        (self.folder / f"{name}.pem").write_bytes(certificates.pem(certificate))
        (self.folder / f"{name}.key").write_bytes(certificates.key_pem(key))


def _span(days):
    now = datetime.now(UTC)
    return now - timedelta(days=10), now + timedelta(days=days)


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
