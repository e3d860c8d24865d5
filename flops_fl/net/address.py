"""Network addresses in the form HOST:PORT."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass

from flops_fl.text import without_login

PLAIN, WITH_TLS = "grpc", "grpc+tls"  # schemes of Arrow Flight's locations


@dataclass(frozen=True, slots=True)
class Address:
    """A host (name or IP, IPv6 without brackets) and a TCP port."""

    host: str
    port: int

    @classmethod
    def parse(cls, text: str) -> Address:
        """Read ``HOST:PORT`` or ``[IPV6]:PORT``.

        Raises:
            ValueError: `text` is neither.
        """
        host, colon, port = text.rpartition(":")
        host = host.removeprefix("[").removesuffix("]")
        known = _is_ip(host) if ":" in host else host and not set(host) & set("/@ ")
        if not (colon and known and port.isdecimal() and int(port) < 65536):
            raise ValueError(
                f"{without_login(text)!r} is not an address, expected HOST:PORT such as "
                "127.0.0.1:8080"
            )
        return cls(host, int(port))

    @property
    def loopback(self) -> bool:
        """Whether only this machine can reach the address."""
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def _is_ip(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


@dataclass(frozen=True, slots=True)
class DataServer:
    """Where a data server is, and whether it is dialled with TLS."""

    address: Address
    tls: bool

    @classmethod
    def parse(cls, text: str) -> DataServer:
        """Read ``grpc://HOST:PORT`` or ``grpc+tls://HOST:PORT``.

        Raises:
            ValueError: `text` is neither.
        """
        scheme, _, rest = text.partition("://")
        if scheme not in (PLAIN, WITH_TLS):
            raise ValueError(
                f"{without_login(text)!r} is no data server, expected {PLAIN}://HOST:PORT or "
                f"{WITH_TLS}://HOST:PORT"
            )
        return cls(Address.parse(rest), scheme == WITH_TLS)

    def __str__(self) -> str:
        return f"{WITH_TLS if self.tls else PLAIN}://{self.address}"
