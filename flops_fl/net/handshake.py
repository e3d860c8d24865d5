"""Explains in one sentence why TLS to an address fails.

gRPC decides whom to trust, but its errors are vague ("failed to connect to all addresses", "Socket
closed"), and its server drops a client that it does not accept without giving a reason. So when a
call has failed, `tls_fault` does a TLS handshake of its own to find the reason. It reports only
faults that trying again cannot mend. Nobody listening yet, a lost connection or a timeout are no
such faults.
"""

from __future__ import annotations

import socket
import ssl
import tempfile
from dataclasses import dataclass, replace

from flops_fl.net.address import Address
from flops_fl.net.identity import Role
from flops_fl.net.tls import Tls, hosts_in

PATIENCE = 5.0  # seconds for a connection and for each answer of a handshake
TRIES = 3  # handshakes in a row that must be cut off to count as a refusal

# OpenSSL's reasons when the other side does not speak TLS.
_NO_TLS = ("WRONG_VERSION_NUMBER", "HTTP_REQUEST", "UNKNOWN_PROTOCOL", "PACKET_LENGTH_TOO_LONG")
# X509_verify_cert_error_string(3)
_NOT_YET_VALID, _EXPIRED, _OTHER_PURPOSE, _OTHER_HOST, _OTHER_IP = 9, 10, 26, 62, 64


@dataclass(frozen=True, kw_only=True, slots=True)
class Ends:
    """What the two ends are called in messages, and how TLS is switched on and off."""

    here: str = "learner"
    there: str = "aggregator"
    role: Role = "aggregator"
    option: str = "--aggregator"
    with_tls: str = "--tls-ca instead of --insecure"
    without: str = "with --insecure, without --tls-ca"


def tls_fault(address: Address, tls: Tls | None, ends: Ends = Ends()) -> str | None:
    """What is wrong with TLS to `address`; None if nothing is wrong or the reason is unknown."""
    if tls is None:
        return _wants_tls(address, ends)
    try:
        _shake(address, tls)
    except ssl.SSLCertVerificationError as error:
        return _their_certificate(address, tls, error, ends)
    except ssl.SSLError as error:
        if error.reason not in _NO_TLS:
            return None
        without = ends.without
        if address.loopback:
            without = without.removeprefix("with --insecure, ")
        return (
            f"{address} does not use TLS: start the {ends.there} with --tls-cert and --tls-key, or "
            f"this {ends.here} {without}"
        )
    except OSError:
        return None
    return _our_certificate(address, tls, ends) if _turned_away(address, tls) else None


def _wants_tls(address: Address, ends: Ends) -> str | None:
    try:
        _shake(address, Tls())
    except OSError:
        return None
    return f"{address} uses TLS and this {ends.here} does not: give {ends.with_tls}"


def _shake(address: Address, tls: Tls, version: ssl.TLSVersion | None = None) -> bytes:
    """Do a TLS handshake; returns the other side's certificate (DER).

    Raises:
        OSError: the connection fails, or (ssl.SSLError) TLS does.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.set_alpn_protocols(["h2"])
    if version is not None:
        context.maximum_version = version
    if tls.ca is None:  # gRPC's own list of authorities is not known here, so accept any
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    else:
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN  # as gRPC does
        context.load_verify_locations(cadata=tls.ca.decode("ascii", "ignore"))
    if tls.certificate and tls.key:
        with tempfile.NamedTemporaryFile() as file:  # ssl reads certificates only from files
            file.write(tls.certificate + b"\n" + tls.key)
            file.flush()
            context.load_cert_chain(file.name)
    with (
        socket.create_connection((address.host, address.port), PATIENCE) as raw,
        context.wrap_socket(raw, server_hostname=address.host) as secure,
    ):
        return secure.getpeercert(binary_form=True) or b""


def _turned_away(address: Address, tls: Tls) -> bool:
    """Whether the other side cuts the connection after seeing our certificate.

    TLS 1.2 is used because its handshake includes the server's check of our certificate. In TLS
    1.3 the client's handshake ends before that check.
    """
    for _ in range(TRIES):
        try:
            _shake(address, tls, ssl.TLSVersion.TLSv1_2)
        except (ssl.SSLEOFError, ConnectionResetError):
            continue
        except OSError:
            return False
        return False
    return True


def _their_certificate(
    address: Address, tls: Tls, error: ssl.SSLCertVerificationError, ends: Ends
) -> str:
    its = f"the certificate of {address}"
    if error.verify_code == _EXPIRED:
        return f"{its} has expired: renew it, or set this machine's clock if that is wrong"
    if error.verify_code == _NOT_YET_VALID:
        return f"{its} is not valid yet: set this machine's clock"
    if error.verify_code == _OTHER_PURPOSE:
        return (
            f"{its} is not one for a server: give the {ends.there} one that was signed with "
            f"--role {ends.role}"
        )
    if error.verify_code in (_OTHER_HOST, _OTHER_IP):
        return (
            f"{its} is for {_names(address, tls)}: use one of these names in {ends.option}, or "
            f"have {address.host} put into the certificate"
        )
    return (
        f"{its} is not signed by the authority in --tls-ca ({error.verify_message}): give the "
        "authority that signed it"
    )


def _names(address: Address, tls: Tls) -> str:
    try:
        shown = _shake(address, replace(tls, ca=None))
        names = hosts_in(ssl.DER_cert_to_PEM_cert(shown).encode())
    except (OSError, ValueError):
        names = []
    return ", ".join(names) or "another host"


def _our_certificate(address: Address, tls: Tls, ends: Ends) -> str:
    if tls.certificate is None:
        return (
            f"{address} lets nobody in without a certificate: give --tls-cert and --tls-key, "
            f"signed by the authority in the {ends.there}'s --tls-ca"
        )
    return (
        f"{address} does not accept the certificate of {tls.names[0] if tls.names else 'nobody'}: "
        f"the authority in the {ends.there}'s --tls-ca must have signed it, and it must not be "
        "expired"
    )
