"""Where notices go: a broker, a listener or a webhook, named by a URL."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from urllib.parse import quote, unquote, urlsplit

from flops_fl.net.address import Address
from flops_fl.text import without_secrets

PORTS = {"mqtt": 9027, "mqtts": 8883, "tcp": 2727, "http": 80, "https": 443}
"""The schemes and their default ports; 9027 and 2727 are FLOps' own."""

_KEPT = "/?%:@!$&'()*+,;="  # all that a path or query may have beside letters and digits
EXPECTED = "expected mqtt://HOST, mqtts://HOST, tcp://HOST or https://HOST/PATH, each with :PORT"


@dataclass(frozen=True, slots=True)
class Target:
    """A URL's parts. Its text hides what may be secret: user, password and query."""

    scheme: str
    host: str
    port: int
    path: str = field(default="", repr=False)
    user: str | None = field(default=None, repr=False)
    password: str | None = field(default=None, repr=False)

    @classmethod
    def parse(cls, text: str) -> Target:
        """Read ``SCHEME://[USER[:PASSWORD]@]HOST[:PORT][/PATH]``.

        What a URL cannot hold is encoded: a path as UTF-8 by percents, a host by IDNA.

        Raises:
            ValueError: `text` is no such URL, has white space, or a scheme that is not in `PORTS`.
        """
        if re.search(r"\s", text):
            raise ValueError(
                "expected no white space: commas separate several, a space in a path is %20"
            )
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

    @property
    def url(self) -> str:
        """What is asked: all but user and password."""
        return f"{self.scheme}://{Address(self.host, self.port)}{self.path}"

    def __str__(self) -> str:
        return without_secrets(self.url)


def _encoded(host: str) -> str:
    """A host's name in ASCII.

    Raises:
        ValueError: it is no name.
    """
    if "%" in host:
        raise ValueError(host)
    return host if host.isascii() else host.encode("idna").decode()
