"""The folder of an authority: its key, its certificate, and all that it has signed.

``ca.key`` is the key and ``ca.pem`` the certificate. ``signed/NAME.pem`` is NAME's certificate. The
operator copies it to NAME; the file stays as the record of what was signed.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from flops_fl.errors import Refused, UsageError
from flops_fl.net.certificates import Authority, PrivateKey, PublicKey, key_pem, pem
from flops_fl.net.identity import Holder
from flops_fl.net.tls import load_pair
from flops_fl.process.files import create

SKEW = timedelta(hours=1)  # how far clocks of other machines may be behind
PRIVATE = 0o600


def until(certificate: x509.Certificate) -> str:
    """When a certificate expires, as text."""
    return f"{certificate.not_valid_after_utc:%Y-%m-%d}"


class AuthorityFolder:
    """An authority on disk."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.key, self.certificate = path / "ca.key", path / "ca.pem"

    def signed(self, name: str) -> Path:
        """The path of NAME's certificate."""
        return self.path / "signed" / f"{name}.pem"

    def exists(self) -> bool:
        """Whether the folder has an authority's key or certificate."""
        return self.key.exists() or self.certificate.exists()

    def make(self, name: str, days: int) -> Authority:
        """Make a new authority.

        Raises:
            UsageError: the folder has one already, or cannot be written.
        """
        require_absent(self.key, self.certificate)
        authority = Authority.create(name, *_span(days))
        with writing(self.path):
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        with key_written(self.key, authority.key):
            write(self.certificate, pem(authority.certificate))
        return authority

    def open(self) -> Authority:
        """Read the authority and check that it can sign.

        Raises:
            UsageError: there is none, or a file is not an authority's.
            Refused: its certificate has expired or belongs to another key, or others can read
                its key.
        """
        if not self.exists():
            raise UsageError(
                f"{self.path} holds no authority (ca.key, ca.pem): give --ca its folder, or make "
                f"one with flops-fl pki init --ca {self.path}"
            )
        mode = _mode(self.key)
        if mode & 0o077:
            raise Refused(
                f"{self.key} has mode {mode:04o}, so other users may have copied it: chmod 600 it, "
                "and make a new authority if you cannot rule that out"
            )
        own, its = str(self.certificate), str(self.key)
        certificate, key = load_pair(read(self.certificate), read(self.key), own, its)
        if not isinstance(key, ec.EllipticCurvePrivateKey) or not _signs(certificate):
            raise UsageError(f"{own} is no authority: expected what flops-fl pki init writes")
        if datetime.now(UTC) > certificate.not_valid_after_utc:
            raise Refused(
                f"{own} has expired on {until(certificate)}: make a new authority in another "
                "folder with flops-fl pki init, and sign every actor's certificate anew"
            )
        return Authority(certificate, key)

    def issue(self, holder: Holder, key: PublicKey, days: int) -> x509.Certificate:
        """Sign a certificate and record it.

        Raises:
            UsageError: `days` end after the authority's own, or the file cannot be written.
            Refused: the name has a certificate already; see also `open`.
        """
        authority, path = self.open(), self.signed(holder.name)
        begin, end = _span(days)
        last = authority.certificate.not_valid_after_utc
        if end > last:
            left = (last - datetime.now(UTC)).days
            instead = f"give at most {left}" if left else "make a new one with flops-fl pki init"
            raise UsageError(
                f"--days {days} is longer than the authority lives, until "
                f"{until(authority.certificate)}: {instead}"
            )
        self._require_new(holder.name)
        certificate = authority.sign_for(holder, key, begin, end)
        with writing(path):
            path.parent.mkdir(exist_ok=True)
            try:
                create(path, pem(certificate))
            except FileExistsError:  # another process has written it since the check
                self._require_new(holder.name)
        return certificate

    def _require_new(self, name: str) -> None:
        path = self.signed(name)
        if not path.exists():
            return
        try:
            earlier = x509.load_pem_x509_certificate(read(path))
            when = f", serial number {earlier.serial_number:x}, valid until {until(earlier)}"
        except ValueError:
            when = ""
        raise Refused(
            f"{name} has a certificate already ({path}{when}): choose another name, or move that "
            "file away to give its holder a second one"
        )


def read(path: Path) -> bytes:
    """A file's content.

    Raises:
        UsageError: it cannot be read.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}") from None


def require_absent(*paths: Path) -> None:
    """Check that none of these files is there, so that none is overwritten.

    Raises:
        UsageError: one is there.
    """
    for path in paths:
        if os.path.lexists(path):
            raise UsageError(
                f"{path} is there already and will not be overwritten: choose another folder, or "
                "move it away if nobody uses it"
            )


def write(path: Path, content: bytes, mode: int = 0o644) -> None:
    """Write a new file.

    Raises:
        UsageError: the file exists, or cannot be written.
    """
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            create(path, content, mode)
        except FileExistsError:
            require_absent(path)
            raise


@contextmanager
def key_written(path: Path, key: PrivateKey) -> Iterator[None]:
    """Write a private key; delete it if the code within the ``with`` fails.

    Raises:
        UsageError: the file exists, or cannot be written.
    """
    write(path, key_pem(key), PRIVATE)
    try:
        yield
    except BaseException:
        path.unlink(missing_ok=True)
        raise


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """A context that turns an OSError into a sentence.

    Raises:
        UsageError: the file cannot be written.
    """
    try:
        yield
    except OSError as error:
        raise UsageError(
            f"{path} cannot be written: {error.strerror}. Choose another folder"
        ) from None


def _mode(path: Path) -> int:
    try:
        return path.stat().st_mode & 0o777
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}") from None


def _signs(certificate: x509.Certificate) -> bool:
    try:
        found = certificate.extensions.get_extension_for_class(x509.BasicConstraints)
    except x509.ExtensionNotFound:
        return False
    return found.value.ca


def _span(days: int) -> tuple[datetime, datetime]:
    now = datetime.now(UTC).replace(microsecond=0)
    return now - SKEW, now + timedelta(days=days)
