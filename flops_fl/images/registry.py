"""A client of registries, as much as it takes to pull a base image and to push a built one.

The OCI distribution specification (opencontainers/distribution-spec, version 1.1) describes the
calls, and Docker's registry the tokens.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlencode, urljoin, urlsplit

from flops_fl.errors import UsageError
from flops_fl.images.layout import CONFIG, INDEX, LAYER, MANIFEST, Descriptor, Layout
from flops_fl.text import without_login

TIMEOUT = 60.0  # seconds without a byte
_DOCKER = "application/vnd.docker."
TYPES = {
    f"{_DOCKER}distribution.manifest.v2+json": MANIFEST,
    f"{_DOCKER}distribution.manifest.list.v2+json": INDEX,
    f"{_DOCKER}container.image.v1+json": CONFIG,
    f"{_DOCKER}image.rootfs.diff.tar.gzip": LAYER,
}
"""OCI's names of Docker's media types; the documents are the same."""
_REFERENCE = re.compile(
    r"(?:(?P<host>localhost(?::\d+)?|[\w-]+(?:\.[\w-]+)*(?::\d+)|[\w-]+(?:\.[\w-]+)+)/)?"
    r"(?P<name>[a-z0-9]+(?:[._/-]+[a-z0-9]+)*)"
    r"(?::(?P<tag>[\w][\w.-]{0,127}))?(?:@(?P<digest>sha256:[0-9a-f]{64}))?"
)


@dataclass(frozen=True, slots=True)
class Reference:
    """An image's name at a registry."""

    host: str
    name: str
    tag: str

    @classmethod
    def parse(cls, text: str) -> Reference:
        """From ``python:3.12-slim`` or ``registry.example.org/me/base@sha256:...``.

        Raises:
            UsageError: it is no such name.
        """
        found = _REFERENCE.fullmatch(text)
        if found is None:
            raise UsageError(
                f"no image {without_login(text)!r}: expected a name such as python:3.12-slim or "
                "registry.example.org/me/base:1, or a folder with an OCI layout"
            )
        host, name = found["host"] or "docker.io", found["name"]
        if host == "docker.io":
            host, name = "registry-1.docker.io", name if "/" in name else f"library/{name}"
        return cls(host, name, found["digest"] or found["tag"] or "latest")

    @property
    def url(self) -> str:
        """Where its manifests and blobs are. Like Docker, without TLS on this machine alone."""
        plain = urlsplit(f"//{self.host}").hostname in ("localhost", "127.0.0.1", "::1")
        return f"{'http' if plain else 'https'}://{self.host}/v2/{self.name}/"

    def __str__(self) -> str:
        separator = "@" if self.tag.startswith("sha256:") else ":"
        return f"{self.host}/{self.name}{separator}{self.tag}"


class Registry:
    """The images of one name at a registry.

    Args:
        remedy: What else a person can do if nobody answers.
    """

    def __init__(
        self, reference: Reference, remedy: str = "give --base a folder with an OCI layout"
    ) -> None:
        self._at = reference
        self._remedy = remedy
        self._token = ""

    def require(self) -> None:
        """Check that there is a registry to push to, whomever it lets in.

        Raises:
            UsageError: nobody answers, or something else.
        """
        try:
            self._open("GET", urljoin(self._at.url, "/v2/"), None, None).close()
        except urllib.error.HTTPError as error:
            error.close()
            if error.code not in (401, 403):  # it wants a login
                raise UsageError(
                    f"{self._at.host} is no registry that works ({error.code} {error.reason} at "
                    f"/v2/): check the name, or {self._remedy}"
                ) from None
        except (OSError, ValueError, HTTPException) as error:
            raise self._away(error, "--push") from None

    def manifest(self, tag: str) -> tuple[str, dict[str, Any], bytes]:
        """A manifest or an index: its OCI media type, what it says, and its bytes.

        Raises:
            UsageError: the registry does not give it.
        """
        accepted = ", ".join([MANIFEST, INDEX, *TYPES])
        with self._call("GET", f"manifests/{tag}", {"Accept": accepted}) as answer:
            content = answer.read()
        if tag.startswith("sha256:") and tag != f"sha256:{hashlib.sha256(content).hexdigest()}":
            raise UsageError(f"{self._at} gave other bytes for {tag}: try another registry")
        said = json.loads(content)
        kind = said.get("mediaType") or answer.headers["Content-Type"]
        return TYPES.get(kind, kind), said, content

    def pull(self, blob: Descriptor, layout: Layout) -> None:
        """Get a blob into a layout.

        Raises:
            UsageError: the registry does not give it, or gives other bytes.
        """
        if layout.path(blob.digest).exists():
            return
        with self._call("GET", f"blobs/{blob.digest}") as answer, layout.new_blob() as written:
            while piece := answer.read(1 << 20):
                written.write(piece)
        if written.descriptor("").digest != blob.digest:
            raise UsageError(f"{self._at} gave other bytes for {blob.digest}: try again")

    def push(self, blob: Descriptor, layout: Layout, other: str = "") -> bool:
        """Send a blob; returns whether that was necessary.

        Args:
            other: A name at the registry from which it may take the blob over.

        Raises:
            UsageError: the registry does not take it.
        """
        try:
            with self._call("HEAD", f"blobs/{blob.digest}", allowed=(404,)):
                return False
        except FileNotFoundError:
            pass
        taken = f"?{urlencode({'mount': blob.digest, 'from': other})}" if other else ""
        with self._call("POST", f"blobs/uploads/{taken}") as answer:
            if answer.status == 201:
                return False
            place = urljoin(self._at.url, answer.headers["Location"])
        joint = "&" if "?" in place else "?"
        headers = {
            "Content-Type": "application/octet-stream",
            "Content-Length": str(blob.size),
        }
        with (
            layout.path(blob.digest).open("rb") as file,
            self._call("PUT", f"{place}{joint}{urlencode({'digest': blob.digest})}", headers, file),
        ):
            return True

    def push_manifest(self, manifest: Descriptor, layout: Layout, tag: str) -> None:
        """Send a manifest or an index, under a tag or its digest.

        Raises:
            UsageError: the registry does not take it.
        """
        headers = {"Content-Type": manifest.media_type, "Content-Length": str(manifest.size)}
        with (
            layout.path(manifest.digest).open("rb") as file,
            self._call("PUT", f"manifests/{tag}", headers, file),
        ):
            pass

    @contextmanager
    def _call(
        self,
        method: str,
        place: str,
        headers: Mapping[str, str] | None = None,
        body: IO[bytes] | None = None,
        allowed: tuple[int, ...] = (),
    ) -> Iterator[Any]:
        """Call the registry, a second time with a token if it asks for one.

        Raises:
            FileNotFoundError: it answers with a status in `allowed`.
            UsageError: it does not answer, or refuses.
        """
        url = urljoin(self._at.url, place)
        try:
            try:
                answer = self._open(method, url, headers, body)
            except urllib.error.HTTPError as error:
                if error.code != 401:
                    raise
                error.close()
                push = method not in ("GET", "HEAD") or bool(allowed)
                self._token = self._ask_token(error.headers.get("WWW-Authenticate", ""), push=push)
                if body:
                    body.seek(0)
                answer = self._open(method, url, headers, body)
        except urllib.error.HTTPError as error:
            error.close()
            if error.code in allowed:
                raise FileNotFoundError(place) from None
            raise self._refused(error) from None
        except (OSError, ValueError, HTTPException) as error:
            raise self._away(error, str(self._at)) from None
        with answer:
            yield answer

    def _open(
        self, method: str, url: str, headers: Mapping[str, str] | None, body: IO[bytes] | None
    ) -> Any:
        request = urllib.request.Request(url, body, dict(headers or {}), method=method)
        if self._token and urlsplit(url).netloc == urlsplit(self._at.url).netloc:
            # Not sent along to the store that a registry may redirect to.
            request.add_unredirected_header("Authorization", self._token)
        return urllib.request.urlopen(request, timeout=TIMEOUT)

    def _away(self, error: Exception, purpose: str) -> UsageError:
        reason = getattr(error, "reason", error)
        return UsageError(
            f"{self._at.host} cannot be reached for {purpose} ({reason}): check the network "
            f"and the name, or {self._remedy}"
        )

    def _refused(self, error: urllib.error.HTTPError) -> UsageError:
        if error.code in (401, 403):
            remedy = "log in (docker login), or check that you may use it"
        elif error.code == 404:
            remedy = "check its name and tag"
        else:
            remedy = "try again later"
        said = f"{error.code} {error.reason}"
        return UsageError(f"{self._at.host} refuses {self._at} ({said}): {remedy}")

    def _ask_token(self, challenge: str, *, push: bool) -> str:
        """The value of the Authorization header that a registry asks for."""
        login = _login(self._at.host)
        scheme, _, rest = challenge.partition(" ")
        said = dict(re.findall(r'(\w+)="([^"]*)"', rest))
        if scheme.lower() != "bearer" or "realm" not in said:
            return f"Basic {login}" if login else ""
        actions = "pull,push" if push else "pull"
        query = {
            "service": said.get("service", ""),
            "scope": f"repository:{self._at.name}:{actions}",
        }
        request = urllib.request.Request(f"{said['realm']}?{urlencode(query)}")
        if login:
            request.add_unredirected_header("Authorization", f"Basic {login}")
        with urllib.request.urlopen(request, timeout=TIMEOUT) as answer:
            given = json.load(answer)
        return f"Bearer {given.get('token') or given.get('access_token')}"


def _login(host: str) -> str:
    """What `docker login` has stored for a host, as the header has it; empty for nothing."""
    folder = os.environ.get("DOCKER_CONFIG") or str(Path.home() / ".docker")
    try:
        stored = json.loads((Path(folder) / "config.json").read_bytes()).get("auths", {})
    except (OSError, ValueError):
        return ""
    names: tuple[str, ...] = (host, f"https://{host}", f"https://{host}/v2/", f"https://{host}/v1/")
    if host == "registry-1.docker.io":
        names = ("https://index.docker.io/v1/", "docker.io")
    return next((stored[name].get("auth", "") for name in names if name in stored), "")
