"""Both ends read the same from a certificate."""

import ssl

import pytest

from flops_fl.errors import FlopsError
from flops_fl.net.tls import Tls, names_in
from flops_fl.wire.hub.door import judge
from flops_fl.wire.messages import Hello


def test_a_certificate_names_its_holder_by_common_name_then_hosts_then_uris(authority, tmp_path):
    authority.sign("a", hosts=["b.example", "10.0.0.1", "a"], uris=["spiffe://site/a"])
    assert names_in((tmp_path / "a.pem").read_bytes()) == ["a", "b.example", "spiffe://site/a"]
    authority.sign("c", common="", hosts=["d"])
    assert Tls.read(tmp_path / "c.pem", tmp_path / "c.key", None).names == ["d"]
    assert Tls.read(None, None, tmp_path / "authority.pem").names == []


def test_a_certificate_without_a_name_is_nobodys(authority, tmp_path):
    authority.sign("nameless", common="", hosts=["10.0.0.1"])
    names = names_in((tmp_path / "nameless.pem").read_bytes())
    hello = Hello(learner="somebody", nonce="", fingerprint="f")
    refusal = judge(hello, names, fingerprint="f", setup=None, anonymous=False, closing=False)
    assert "names nobody" in refusal.reason
    assert judge(hello, None, fingerprint="f", setup=None, anonymous=False, closing=False) is None


@pytest.mark.filterwarnings("ignore::cryptography.utils.CryptographyDeprecationWarning")
def test_a_damaged_certificate_is_answered_in_a_sentence(authority, tmp_path):
    """One bit, anywhere: it is an error of ours, or nothing that we look at."""
    path, key = tmp_path / "server.pem", tmp_path / "server.key"
    whole = ssl.PEM_cert_to_DER_cert(path.read_text())
    said = set()
    for place in range(len(whole)):
        damaged = bytearray(whole)
        damaged[place] ^= 1 << place % 8
        path.write_text(ssl.DER_cert_to_PEM_cert(bytes(damaged)))
        try:
            assert Tls.read(path, key, None, "aggregator").names
        except FlopsError as error:
            said.add(str(error).removeprefix(f"--tls-cert {path} ").partition(":")[0])
    assert {"holds a damaged certificate", "holds no certificate"} <= said
