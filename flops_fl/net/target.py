"""Where notices go: a broker, a listener or a webhook, named by a URL."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from urllib.parse import quote, unquote, urlsplit

from flops_fl.net.address import Address

PORTS = {"mqtt": 9027, "mqtts": 8883, "tcp": 2727, "http": 80, "https": 443}
"""The schemes and their default ports; 9027 and 2727 are FLOps' own."""

_KEPT = "/?%:@!$&'()*+,;="  # all that a path or query may have beside letters and digits
EXPECTED = "expected mqtt://HOST, mqtts://HOST, tcp://HOST or https://HOST/PATH, each with :PORT"


@dataclass(frozen=True, slots=True)
class Target:
    """A URL's parts. Its text hides user and password, which a broker may want."""

    scheme: str
    host: str
    port: int
    path: str = ""
    user: str | None = field(default=None, repr=False)
    password: str | None = field(default=None, repr=False)

    @classmethod
    def parse(cls, text: str) -> Target:
        """Read ``SCHEME://[USER[:PASSWORD]@]HOST[:PORT][/PATH]``.

        What a URL cannot hold is encoded: a path as UTF-8 by percents, a host by IDNA.

        Raises:
            ValueError: `text` is no such URL, or has a scheme that is not in `PORTS`.
        """
        try:
            url = urlsplit(text)
            port, host = url.port, _encoded(url.hostname or "")
        except ValueError:
            raise ValueError(EXPECTED) from None
        if url.scheme not in PORTS or not host or port == 0:
            raise ValueError(EXPECTED)
        path = url.path + (f"?{url.query}" if url.query else "")
        path = quote(re.sub("%(?![0-9A-Fa-f]{2})", "%25", path), safe=_KEPT)
        if path not in ("", "/") and not url.scheme.startswith("http"):
            raise ValueError(f"expected nothing after the port of {url.scheme}://")
        return cls(
            scheme=url.scheme,
            host=host,
            port=port or PORTS[url.scheme],
            path=path,
            user=None if url.username is None else unquote(url.username),
            password=None if url.password is None else unquote(url.password),
        )

    @property
    def encrypted(self) -> bool:
        """Whether messages are sent over TLS."""
        return self.scheme in ("mqtts", "https")

    def __str__(self) -> str:
        return f"{self.scheme}://{Address(self.host, self.port)}{self.path}"


def _encoded(host: str) -> str:
    """A host's name in ASCII.

    Raises:
        ValueError: it is no name.
    """
    if re.search(r"[\s%]", host):
        raise ValueError(host)
    return host if host.isascii() else host.encode("idna").decode()
