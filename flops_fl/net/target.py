"""Where notices go: a broker, a listener or a webhook, named by a URL."""

from __future__ import annotations

from dataclasses import dataclass, field
from urllib.parse import unquote, urlsplit

from flops_fl.net.address import Address

PORTS = {"mqtt": 9027, "mqtts": 8883, "tcp": 2727, "http": 80, "https": 443}
"""The schemes and their default ports; 9027 and 2727 are FLOps' own."""

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

        Raises:
            ValueError: `text` is no such URL, or has a scheme that is not in `PORTS`.
        """
        try:
            url = urlsplit(text)
            port = url.port
        except ValueError:
            raise ValueError(EXPECTED) from None
        if url.scheme not in PORTS or not url.hostname or port == 0:
            raise ValueError(EXPECTED)
        path = url.path + (f"?{url.query}" if url.query else "")
        if path not in ("", "/") and not url.scheme.startswith("http"):
            raise ValueError(f"expected nothing after the port of {url.scheme}://")
        return cls(
            scheme=url.scheme,
            host=url.hostname,
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
