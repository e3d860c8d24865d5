"""An authority that may not or cannot sign, and folders that cannot be written."""

import os
from contextlib import contextmanager

import pytest

from flops_fl.cli import run
from flops_fl.errors import Refused, UsageError
from flops_fl.net.tls import Tls
from tests.certificates import Authority
from tests.pki.lines import ROOT, wrong


def test_an_authority_that_cannot_sign(pki_command, here):
    pki_command("request a --role learner")
    line = "sign a.csr --role learner --name a"
    assert "pki holds no authority" in wrong(UsageError, pki_command, line)
    pki_command("init --days 30")
    said = wrong(UsageError, pki_command, line)
    assert "--days 365 is longer than the authority lives" in said
    assert said.endswith("give at most 29")
    pki_command(line + " --days 29")
    pki_command("init --ca short --days 1")
    said = wrong(UsageError, pki_command, "enroll b --role learner --ca short")
    assert said.endswith("make a new one with flops-fl pki init")

    (here / "pki/ca.key").chmod(0o640)
    assert "pki/ca.key has mode 0640" in wrong(Refused, pki_command, line)
    (here / "pki/ca.key").chmod(0o600)

    pki_command("init --ca other")
    (here / "pki/ca.pem").write_bytes((here / "other/ca.pem").read_bytes())
    assert "pki/ca.key is not the key of pki/ca.pem" in wrong(Refused, pki_command, line)
    (here / "pki/ca.pem").write_text("nothing")
    assert "pki/ca.pem holds no certificate" in wrong(UsageError, pki_command, line)
    (here / "pki/ca.pem").unlink()
    assert "pki/ca.pem cannot be read" in wrong(UsageError, pki_command, line)


def as_authority(folder, name):
    """What tests/certificates.py wrote, as an authority's folder."""
    (folder / "pki").mkdir()
    for ending in ("pem", "key"):
        (folder / f"{name}.{ending}").rename(folder / "pki" / f"ca.{ending}")
    (folder / "pki/ca.key").chmod(0o600)


def test_an_expired_authority_signs_nothing_and_vouches_for_nobody(pki_command, here):
    Authority(here, "old", days=-1)
    as_authority(here, "old")
    said = wrong(Refused, pki_command, "enroll a --role learner --days 1")
    assert "pki/ca.pem has expired on" in said
    assert not (here / "a.key").exists()
    with pytest.raises(Refused, match="--tls-ca .*ca.pem has expired on"):
        Tls.read(None, None, here / "pki/ca.pem")


def test_a_certificate_that_may_not_sign_is_no_authority(pki_command, here):
    Authority(here).sign("leaf")
    as_authority(here, "leaf")
    assert "pki/ca.pem is no authority" in wrong(
        UsageError, pki_command, "enroll a --role learner --days 1"
    )


def test_a_certificate_is_for_one_role(pki_command, here):
    pki_command("enroll a --role learner")
    pki_command(f"enroll root {ROOT}")
    for name, role in (("a", "aggregator"), ("root", "learner")):
        pair = here / "pki/signed" / f"{name}.pem", here / f"{name}.key"
        with pytest.raises(Refused, match=f"is for another role than {role}: .*--role {role}"):
            Tls.read(*pair, None, role)
    pair = ["--tls-cert", str(here / "pki/signed/root.pem"), "--tls-key", str(here / "root.key")]
    for words, role in ((["ls"], "learner"), (["show", "x"], "learner"), (["rm", "x"], "device")):
        with pytest.raises(Refused, match=f"give one signed with --role {role}$"):
            run(["data", *words, "--server", "grpc+tls://127.0.0.1:9", *pair])


@contextmanager
def nobody():
    """As a user without rights, also where the tests are root's."""
    if os.geteuid():
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


def test_a_folder_that_cannot_be_written(pki_command, here):
    pki_command("init")
    pki_command("request a --role learner")
    line = "sign a.csr --role learner --name a"
    (here / "file").touch()
    said = wrong(UsageError, pki_command, "request b --role learner --out file/x")
    assert said.startswith("file/x/b.key cannot be written: Not a directory")
    closed = here / "closed"
    closed.mkdir(mode=0o500)
    with nobody():
        for command in ("request b --role learner --out closed", "init --ca closed/pki"):
            said = wrong(UsageError, pki_command, command)
            assert "cannot be written: Permission denied" in said
    assert list(closed.iterdir()) == []
    (here / "pki/signed").touch()
    said = wrong(UsageError, pki_command, line)
    assert said.startswith("pki/signed")
    assert sorted(path.name for path in here.rglob("*.part")) == []


def test_a_half_made_pair_is_not_left_behind(pki_command, here, monkeypatch):
    from flops_fl.pki import folder

    def full(path, content, mode=0o644):
        if path.suffix in (".csr", ".pem"):
            raise OSError(28, "No space left on device")
        return create(path, content, mode)

    create = folder.create
    monkeypatch.setattr(folder, "create", full)
    for command in ("init", "request a --role learner", "enroll a --role learner"):
        assert "No space left" in wrong(UsageError, pki_command, command)
    assert [path for path in here.rglob("*") if path.is_file()] == []


def test_what_another_process_writes_at_the_same_moment_stays(pki_command, here, monkeypatch):
    from flops_fl.pki import folder

    def second(path, content, mode=0o644):
        path.write_bytes(b"the first one's")
        return create(path, content, mode)

    pki_command("init")
    pki_command("request a --role learner")
    create = folder.create
    monkeypatch.setattr(folder, "create", second)
    said = wrong(Refused, pki_command, "sign a.csr --role learner --name a")
    assert "a has a certificate already (pki/signed/a.pem)" in said
    assert "b.key is there already" in wrong(UsageError, pki_command, "request b --role learner")
    for path in ("pki/signed/a.pem", "b.key"):
        assert (here / path).read_text() == "the first one's"
