"""Tiny images: a base without programs, packages of a few lines, a registry in memory."""

import hashlib
import json
import os
import re
import subprocess
import sys
import tarfile
import threading
import zipfile
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs

from packaging.requirements import Requirement

from flops_fl.images import needs, site
from flops_fl.images.layers import Member, write_layer
from flops_fl.images.layout import CONFIG, INDEX, MANIFEST, REF_NAME, Descriptor, Layout, index_of

MACHINES = {"linux/amd64": "x86_64", "linux/arm64": "aarch64"}
PYTHON = f"{sys.version_info[0]}.{sys.version_info[1]}"
SITE = f"app/env/lib/python{PYTHON}/site-packages"


def base(folder, *platforms, python="3.11", libc=b"GNU C Library stable release version 2.36.\n"):
    """An OCI layout with a base image; one platform is there by itself, several in an index."""
    folder.mkdir()
    layout, manifests = Layout.create(folder), []
    for platform in platforms or MACHINES:
        system, architecture = platform.split("/")
        layer = write_layer(
            "base",
            [
                Member(path=f"usr/local/bin/python{python}", content=architecture.encode()),
                Member(path="lib/libc.so.6", content=libc),
            ],
            layout,
        )
        config = layout.add(
            CONFIG,
            {
                "os": system,
                "architecture": architecture,
                "config": {"Env": ["PATH=/usr/local/bin", "LANG=C.UTF-8"], "Cmd": ["python3"]},
                "rootfs": {"type": "layers", "diff_ids": [layer.diff_id]},
                "history": [{"created_by": "base"}],
            },
        )
        document = {"config": config.as_json(), "layers": [layer.blob.as_json()]}
        made = layout.add(MANIFEST, {"schemaVersion": 2, "mediaType": MANIFEST, **document})
        manifests.append(Descriptor(MANIFEST, made.digest, made.size, platform))
    top = manifests[0]
    if len(manifests) > 1:
        top = layout.add(INDEX, index_of(manifests))
    layout.close(
        [Descriptor(top.media_type, top.digest, top.size, annotations={REF_NAME: "base:1"})]
    )
    return folder


def wheel(folder, name, files, *, tag="py3-none-any", requires=(), version="1.0"):
    """A wheel; its files are text by name."""
    folder.mkdir(exist_ok=True)
    info = f"{name}-{version}.dist-info"
    needs = "".join(f"Requires-Dist: {each}\n" for each in requires)
    files = {
        **files,
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{needs}",
        f"{info}/WHEEL": f"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: {tag}\n",
    }
    files[f"{info}/RECORD"] = "".join(f"{file},,\n" for file in (*files, f"{info}/RECORD"))
    path = folder / f"{name}-{version}-{tag}.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for file, text in files.items():
            archive.writestr(zipfile.ZipInfo(file), text)
    return path


def small_runtime(set_attribute):
    """Let flops-fl need a few packages of `wheels`, and be few files, to compile few."""
    roots = {"images": ["wire", "uv"], "aggregator": ["tracking"]}
    set_attribute(
        needs,
        "requirements_of",
        lambda _, extras: [Requirement(name) for extra in extras for name in roots[extra]],
    )
    set_attribute(site, "OURS", ("learner", "aggregator"))


class Registry:
    """What a registry keeps: blobs and manifests by digest, tags; and who called what."""

    def __init__(self):
        self.blobs, self.manifests, self.kinds, self.calls = {}, {}, {}, []
        self.places = {}
        """The names under which a blob that was pushed is there."""
        self.token = ""
        """Asked of every call, if there is one."""
        self.is_else = False
        """It answers, and is no registry."""
        self.address = ""


@contextmanager
def registry():
    """A registry on loopback, as the OCI distribution specification has it."""
    kept = Registry()

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_):
            pass

        def answer(self, code, body=b"", **headers):
            self.send_response(code)
            for name, value in headers.items():
                self.send_header(name.replace("_", "-"), value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        def name(self):
            return re.fullmatch(r"/v2/(.*)/(?:blobs|manifests)/.*", self.path)[1]

        def let_in(self):
            kept.calls.append(f"{self.command} {self.path}")
            if self.path.startswith("/token"):
                self.answer(200, json.dumps({"token": kept.token}).encode())
                return False
            if kept.token and self.headers["Authorization"] != f"Bearer {kept.token}":
                realm = f'Bearer realm="http://{kept.address}/token",service="tiny"'
                self.answer(401, WWW_Authenticate=realm)
                return False
            return True

        def do_GET(self):
            if not self.let_in():
                return
            name = self.path.rpartition("/")[2]
            if self.path == "/v2/" and not kept.is_else:
                self.answer(200)
            elif "/manifests/" in self.path and name in kept.manifests:
                self.answer(200, kept.manifests[name], Content_Type=kept.kinds[name])
            elif "/blobs/" in self.path and self.name() in kept.places.get(name, [self.name()]):
                found = kept.blobs.get(name)
                self.answer(404 if found is None else 200, found or b"")
            else:
                self.answer(404)

        do_HEAD = do_GET  # noqa: N815

        def do_POST(self):
            if not self.let_in():
                return
            place, _, query = self.path.partition("?")
            told = parse_qs(query)
            if told and told["from"][0] in kept.places.get(told["mount"][0], ()):
                kept.places[told["mount"][0]].add(self.name())
                self.answer(201)
            else:
                self.answer(202, Location=f"{place}1?state=2")

        def do_PUT(self):
            content = self.rfile.read(int(self.headers["Content-Length"]))
            if not self.let_in():
                return
            digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
            if "/manifests/" in self.path:
                for name in (digest, self.path.rpartition("/")[2]):
                    kept.manifests[name] = content
                    kept.kinds[name] = self.headers["Content-Type"]
                missing = set(re.findall(rb'"digest":"(sha256:\w+)"', content))
                known = {name.encode() for name in (*kept.blobs, *kept.manifests)}
                self.answer(201 if missing <= known else 400)
            else:
                kept.blobs[digest] = content
                kept.places.setdefault(digest, set()).add(self.name())
                self.answer(201 if f"sha256%3A{digest[7:]}" in self.path else 400)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    kept.address = f"127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield kept
    finally:
        server.shutdown()
        server.server_close()


def fill(kept, folder: Path, tag="1"):
    """Put the one image of a layout into a registry."""
    layout = Layout(folder)
    for file in (folder / "blobs" / "sha256").iterdir():
        content = file.read_bytes()
        kept.blobs[f"sha256:{file.name}"] = content
        if content.startswith(b"{") and b'"mediaType"' in content:
            kept.manifests[f"sha256:{file.name}"] = content
            kept.kinds[f"sha256:{file.name}"] = json.loads(content)["mediaType"]
    top = layout.index()[0]
    kept.manifests[tag], kept.kinds[tag] = kept.blobs[top.digest], top.media_type


def git(folder, *words):
    names = {
        f"GIT_{who}_{what}": "a@b" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")
    }
    environment = {**os.environ, **names}
    done = subprocess.run(
        ["git", "-C", folder, *words], check=True, capture_output=True, text=True, env=environment
    )
    return done.stdout.strip()


def commit(folder):
    git(folder, "add", "-A")
    git(folder, "commit", "-qm", "x")
    return git(folder, "rev-parse", "HEAD")


def names_in(folder, name="learner", platform="linux/amd64"):
    """The files of an image, by layer, and its config."""
    layout = Layout(folder)
    (top,) = [each for each in layout.index() if f"/{name}:" in each.name]
    document = layout.document(top.digest)
    if top.media_type == INDEX:
        (found,) = [
            each for each in document["manifests"]
            if each["platform"]["architecture"] == platform.partition("/")[2]
        ]  # fmt: skip
        document = layout.document(found["digest"])
    layers = []
    for layer in document["layers"]:
        with tarfile.open(layout.path(layer["digest"])) as tar:
            layers.append({each.name: each for each in tar if not each.isdir()})
    return layers, layout.document(document["config"]["digest"])
