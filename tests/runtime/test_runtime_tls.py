"""TLS between real processes: who is let in, and under which name."""

import datetime
import ipaddress

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from tests.conftest import EXAMPLES

NUMPY = EXAMPLES / "numpy_minimal"


def _certificate(folder, name, issuer=None):
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    hosts = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer[0].subject if issuer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(x509.BasicConstraints(ca=issuer is None, path_length=None), critical=True)
        .add_extension(
            x509.SubjectAlternativeName(hosts if name == "server" else [x509.DNSName(name)]),
            critical=False,
        )
        .sign(issuer[1] if issuer else key, hashes.SHA256())
    )
    (folder / f"{name}.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    (folder / f"{name}.key").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return certificate, key


@pytest.fixture
def pki(tmp_path):
    authority = _certificate(tmp_path, "authority")
    for name in ("server", "learner-a", "learner-b"):
        _certificate(tmp_path, name, authority)
    _certificate(tmp_path, "stranger")

    def options(name):
        files = {"cert": f"{name}.pem", "key": f"{name}.key", "ca": "authority.pem"}
        return [part for key, file in files.items() for part in (f"--tls-{key}", tmp_path / file)]

    return options


def test_certificates_name_the_learners(processes, digits, pki, run_cli, tmp_path):
    aggregator = processes.aggregator(NUMPY, "--rounds", 2, "--min-clients", 2, *pki("server"))

    def join(*options):
        return run_cli(
            "learner", NUMPY, "--aggregator", processes.address, "--data", digits / "part-0",
            "--connect-timeout", 2, *options,
        )  # fmt: skip

    first = processes.start(
        "learner", NUMPY, "--aggregator", processes.address, "--data", digits / "part-0",
        *pki("learner-a"),
    )  # fmt: skip
    code, _, err = join("--learner-id", "learner-a", *pki("learner-b"))
    assert (code, "is not in the certificate" in err) == (5, True), err
    code, _, err = join("--tls-ca", tmp_path / "stranger.pem")
    assert (code, "TLS could not be set up" in err) == (5, True), err
    code, _, err = join()  # without TLS at all
    assert code in (4, 5), err
    code, _, err = join(*pki("learner-b"))
    assert code == 0, err
    processes.finish(first)
    result = processes.result(aggregator)
    assert result["rounds"][1]["learners"] == ["learner-a", "learner-b"]
