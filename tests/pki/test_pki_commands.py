"""Three commands for certificates: what they make, ask for, sign and refuse."""

import json
import os
import ssl
import stat
import subprocess
import sys
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from hypothesis import given
from hypothesis import strategies as st

from flops_fl.errors import Refused, UsageError
from flops_fl.net import certificates
from flops_fl.net.identity import ROLES, Holder, read_uri
from flops_fl.net.tls import Tls, hosts_in, names_in
from flops_fl.wire.hub.door import judge
from flops_fl.wire.messages import Hello
from tests.pki.lines import ROOT, wrong


def certificate(path):
    return x509.load_pem_x509_certificate(path.read_bytes())


def extension(signed, kind):
    return signed.extensions.get_extension_for_class(kind)


def test_what_each_prints_next_leads_to_files_that_both_ends_take(pki_command, here):
    pki_command("init")
    for who in (f"root {ROOT}", "learner-a --role learner"):
        said = pki_command(f"request {who}")
        sign = said.splitlines()[-1].strip().removeprefix("flops-fl pki ")
        last = pki_command(sign).splitlines()[-1].split()
        files = [last[last.index(f"--tls-{kind}") + 1] for kind in ("cert", "key", "ca")]
        assert files == [f"{last[-1 - 2].removesuffix('.key')}.pem", last[-3], "ca.pem"]
        role = last[2]
        name = files[1].removesuffix(".key")
        tls = Tls.read(here / "pki/signed" / files[0], here / files[1], here / "pki/ca.pem", role)
        assert tls.names[0] == name
    root = (here / "pki/signed/root.pem").read_bytes()
    assert hosts_in(root) == ["root.example.org", "10.0.0.1", "fd00::1"]
    assert names_in((here / "pki/signed/learner-a.pem").read_bytes()) == ["learner-a"]


def test_what_is_in_them(pki_command, here):
    pki_command("init --days 400 --name ours")
    pki_command(f"enroll root --days 30 {ROOT}")
    pki_command("enroll learner-a --role learner")
    ca, root, learner = (
        certificate(here / "pki" / name)
        for name in ("ca.pem", "signed/root.pem", "signed/learner-a.pem")
    )
    constraints = extension(ca, x509.BasicConstraints)
    assert (constraints.critical, constraints.value.ca, constraints.value.path_length) == (
        True, True, 0,
    )  # fmt: skip
    uses = extension(ca, x509.KeyUsage).value
    assert (uses.key_cert_sign, uses.crl_sign, uses.digital_signature) == (True, True, False)
    assert ca.subject.rfc4514_string() == "CN=ours"
    for signed, usage in ((root, "serverAuth"), (learner, "clientAuth")):
        signed.verify_directly_issued_by(ca)
        assert [use._name for use in extension(signed, x509.ExtendedKeyUsage).value] == [usage]
        assert not extension(signed, x509.BasicConstraints).value.ca
        assert isinstance(signed.public_key().curve, ec.SECP256R1)
        begin = datetime.now(UTC) - signed.not_valid_before_utc
        assert timedelta(minutes=59) < begin < timedelta(hours=2)  # clocks may differ
    assert ca.not_valid_after_utc - root.not_valid_after_utc > timedelta(days=369)
    assert root.serial_number != learner.serial_number


def test_keys_are_the_owners_and_nothing_is_overwritten(pki_command, here):
    before = os.umask(0)
    try:
        pki_command("init")
        pki_command("request a --role learner")
    finally:
        os.umask(before)
    for key in (here / "pki/ca.key", here / "a.key"):
        assert stat.S_IMODE(key.stat().st_mode) == 0o600
    kept = {path: path.read_bytes() for path in here.rglob("*.*") if path.is_file()}
    assert "pki/ca.key is there already" in wrong(UsageError, pki_command, "init")
    assert "a.key is there already" in wrong(UsageError, pki_command, "request a --role learner")
    assert "a.key is there already" in wrong(UsageError, pki_command, "enroll a --role learner")
    (here / "b.csr").symlink_to("nowhere")
    assert "b.csr is there already" in wrong(UsageError, pki_command, "request b --role learner")
    assert {path: path.read_bytes() for path in here.rglob("*.*") if path.is_file()} == kept


def test_a_request_is_signed_only_for_whom_the_operator_names(pki_command, here):
    pki_command("init --ca there")
    pki_command("request learner-a --role learner")
    said = wrong(UsageError, pki_command, "sign learner-a.csr --ca there")
    assert "asks for learner learner-a, key SHA-256" in said
    command = said.partition("in, run: flops-fl pki ")[2]
    assert command == "sign learner-a.csr --role learner --name learner-a --ca there"
    said = wrong(Refused, pki_command, "sign learner-a.csr --role learner --name b --ca there")
    assert "asks for learner learner-a, and you said learner b" in said
    other = "sign learner-a.csr --role aggregator --name learner-a --host 10.0.0.1 --ca there"
    assert "you said aggregator learner-a at 10.0.0.1" in wrong(Refused, pki_command, other)
    assert not (here / "there/signed").exists()
    pki_command(command)
    said = wrong(Refused, pki_command, command)
    serial = certificate(here / "there/signed/learner-a.pem").serial_number
    assert "learner-a has a certificate already (there/signed/learner-a.pem" in said
    assert f"{serial:x}" in said


def test_hosts_that_the_operator_did_not_say_are_refused(pki_command):
    pki_command("init")
    pki_command("request root --role aggregator --host root.example.org,bank.example")
    line = "sign root.csr --role aggregator --name root --host "
    said = wrong(Refused, pki_command, line + "root.example.org")
    assert "bank.example" in said
    pki_command(line + "bank.example,root.example.org")


def request(path, names, *, common=None, key=None, more=()):
    """Writes a request as another program might."""
    key = key or certificates.new_key()
    subject = [x509.NameAttribute(x509.NameOID.COMMON_NAME, common)] if common else []
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name(subject))
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    for entry in more:
        builder = builder.add_extension(entry, critical=True)
    path.write_bytes(certificates.pem(builder.sign(key, hashes.SHA256())))


def test_what_another_program_asks_for_is_looked_at_and_nothing_of_it_copied(pki_command, here):
    pki_command("init")
    path = here / "a.csr"
    line = "sign a.csr --role learner --name a"
    request(path, [x509.RFC822Name("root@example.org")], common="a")
    assert "'root@example.org', a name that no actor has" in wrong(Refused, pki_command, line)
    request(path, [x509.UniformResourceIdentifier("flops://learner/b")], common="a")
    assert "asks for a, b, expected one name" in wrong(Refused, pki_command, line)
    request(path, [x509.DNSName("root.example.org")], common="a")
    assert "asks for learner a at root.example.org" in wrong(Refused, pki_command, line)
    request(path, [], common="a; rm -rf /")
    assert "expected 1 to 128 letters" in wrong(Refused, pki_command, "sign a.csr")
    request(path, [])
    assert "asks for no name" in wrong(Refused, pki_command, line)
    request(path, [], common="a", key=rsa.generate_private_key(65537, 1024))
    assert "another kind than EC P-256" in wrong(Refused, pki_command, line)
    request(path, [], common="a", more=[x509.BasicConstraints(ca=True, path_length=None)])
    pki_command(line)
    signed = certificate(here / "pki/signed/a.pem")
    assert not extension(signed, x509.BasicConstraints).value.ca
    assert names_in((here / "pki/signed/a.pem").read_bytes()) == ["a"]


def test_a_request_that_is_none(pki_command, here):
    pki_command("init")
    pki_command("request a --role learner")
    (here / "text.csr").write_text("nothing of the kind")
    line = " --role learner --name a"
    assert "text.csr holds no request" in wrong(UsageError, pki_command, "sign text.csr" + line)
    assert "pki/ca.pem holds no req" in wrong(UsageError, pki_command, "sign pki/ca.pem" + line)
    assert "a.key holds a private key" in wrong(UsageError, pki_command, "sign a.key" + line)
    assert "nowhere.csr cannot be read" in wrong(UsageError, pki_command, "sign nowhere.csr" + line)
    asked = x509.load_pem_x509_csr((here / "a.csr").read_bytes())
    forged = bytearray(asked.public_bytes(serialization.Encoding.DER))
    forged[-1] ^= 1  # of the signature
    armour = ssl.DER_cert_to_PEM_cert(bytes(forged)).replace("CERTIFICATE", "CERTIFICATE REQUEST")
    (here / "forged.csr").write_text(armour)
    said = wrong(Refused, pki_command, "sign forged.csr" + line)
    assert "not signed by the key that it asks for" in said


@given(st.integers(0, 400), st.integers(0, 7))
def test_a_damaged_request_is_answered_and_never_read_as_another(place, bit):
    holder = Holder(name="learner-a", role="learner")
    key = certificates.new_key()
    content = bytearray(certificates.pem(certificates.request_for(holder, key)))
    content[place % len(content)] ^= 1 << bit
    try:
        found = certificates.read_request(bytes(content), "a.csr")
    except (ValueError, Refused):
        return
    assert found == (key.public_key(), "learner-a", "learner", ())  # it was beside the point


LONG = "l" * 128


@pytest.mark.parametrize("name", [LONG, "lärner", "ä" * 64, "a:b@c+d=e.f", "学习者-1"])
def test_every_id_that_the_door_lets_in_can_be_certified(pki_command, here, name):
    pki_command(f"enroll {name} --role learner")
    pem = (here / "pki/signed" / f"{name}.pem").read_bytes()
    assert names_in(pem) == [name]
    common = certificate(here / "pki/signed" / f"{name}.pem").subject.rfc4514_string()
    assert bool(common) == (len(name.encode()) <= 64)
    hello = Hello(learner=name, nonce="", fingerprint="f")
    told = {"fingerprint": "f", "setup": None, "anonymous": False, "closing": False}
    assert judge(hello, names_in(pem), **told) is None
    pki_command(f"request {name} --role learner --out other")
    said = wrong(UsageError, pki_command, f"sign other/{name}.csr")
    assert ("(spelt '" in said) == (not name.isascii())


LETTERS = st.characters(categories=["L", "N"]) | st.sampled_from("_.@:+=-")


@given(st.text(LETTERS, min_size=1, max_size=20), st.sampled_from(ROLES))
def test_a_name_is_read_from_its_uri_as_it_was(name, role):
    uri = Holder(name=name, role=role).uri
    assert uri.isascii()
    assert read_uri(uri) == (role, name)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("request a", "--role is missing"),
        ("request a/b --role learner", "NAME a/b: expected 1 to 128 letters"),
        ("request a --role learner --name b", "--name: no such option"),
        (f"request {LONG}l --role learner", "expected 1 to 128 letters"),
        (f"request {'学' * 67} --role learner", "expected at most 200 bytes"),
        ("request flower-7 --role learner", "Flower's clients are called that"),
        ("request a --role boss", "--role boss"),
        ("request a --role learner --host 10.0.0.1", "nobody dials a learner"),
        ("request a --role aggregator", "--role aggregator needs --host"),
        ("request a --role aggregator --host 10.0.0.1:8080", "without a port"),
        ("request a --role aggregator --host 10.0.0.256", "--host 10.0.0.256"),
        ("request a --role aggregator --host fe80::1%eth0", "--host fe80::1%eth0"),
        ("request a --role aggregator --host *.example.org", "--host *.example.org"),
        ("request a --role aggregator --host münchen.example", "xn--"),
        ("request a --role aggregator --host good.example,-bad", "--host -bad"),
        ("sign a.csr --role aggregator --name a", "--role aggregator needs --host"),
        ("sign a.csr --days 0", "--days 0"),
        (f"init --name {'ä' * 33}", "expected 1 to 64 bytes"),
    ],
)
def test_mistakes_are_named_before_anything_is_written(pki_command, here, line, said):
    assert said in wrong(UsageError, pki_command, line)
    assert list(here.iterdir()) == []


def test_json_has_what_the_sentences_say(pki_command, here):
    made = json.loads(pki_command("init --json"))
    assert made["certificate"] == "pki/ca.pem"
    asked = json.loads(pki_command("request a --role learner --json"))
    sign = asked["next"][0].removeprefix("flops-fl pki ")
    signed = json.loads(pki_command(sign + " --json"))
    assert signed["key_sha256"] == asked["key_sha256"]
    assert (signed["name"], signed["role"], signed["hosts"]) == ("a", "learner", [])
    found = certificate(here / signed["certificate"])
    assert signed["serial"] == f"{found.serial_number:x}"
    assert datetime.fromisoformat(signed["not_after"]) == found.not_valid_after_utc
    assert json.loads(pki_command("enroll b --role learner --json"))["ca"] == "pki/ca.pem"


@pytest.mark.parametrize("line", [["simulate", "--help"], ["pki", "sign", "--help"]])
def test_help_does_not_wait_for_the_cryptography(line):
    code = (
        "import sys; from flops_fl import cli\n"
        "try: cli.run(sys.argv[1:])\n"
        "except SystemExit: pass\n"
        "sys.exit(sum(name.startswith('cryptography') for name in sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *line], check=False, stdout=subprocess.DEVNULL
    )
    assert done.returncode == 0
