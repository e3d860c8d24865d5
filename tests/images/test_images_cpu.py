"""--cpu: torch's wheels come from PyTorch's own index, here a stand-in behind a proxy."""

import ssl
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from flops_fl.cli import run
from flops_fl.errors import UsageError
from tests.images import tiny
from tests.images.tiny import SITE, commit, names_in

HOST = "download.pytorch.org"


@pytest.fixture
def pytorch(authority, tmp_path, monkeypatch):
    """PyTorch's index for torch without CUDA, as uv calls it; gives the paths that were asked."""
    authority.sign("pytorch", hosts=[HOST])
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(tmp_path / "pytorch.pem", tmp_path / "pytorch.key")
    link = "torch-2.9.0%2Bcpu-py3-none-any.whl"
    content = tiny.wheel(
        tmp_path / "cpu", "torch", {"torch/__init__.py": "cuda = False\n"}, version="2.9.0+cpu"
    ).read_bytes()
    pages = {
        "/whl/cpu/torch/": f'<a href="{link}">torch</a>'.encode(),
        f"/whl/cpu/torch/{link}": content,
    }
    asked = []

    class Proxy(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_):
            pass

        def do_CONNECT(self):
            self.send_response(200)
            self.end_headers()
            if self.path == f"{HOST}:443":
                self.connection = context.wrap_socket(self.connection, server_side=True)
                self.rfile = self.connection.makefile("rb")
                self.wfile = self.connection.makefile("wb", 0)
                self.close_connection = False

        def finish(self):
            super().finish()
            self.connection.close()

        def do_GET(self):
            asked.append(self.path)
            content = pages.get(self.path)
            self.send_response(404 if content is None else 200)
            self.send_header("Content-Type", "text/html" if self.path[-1] == "/" else "x/wheel")
            self.send_header("Content-Length", str(len(content or b"")))
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(content or b"")

        do_HEAD = do_GET  # noqa: N815

    server = ThreadingHTTPServer(("127.0.0.1", 0), Proxy)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{server.server_address[1]}")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "authority.pem"))
    yield asked
    server.shutdown()
    server.server_close()


@pytest.fixture
def torch_repo(repo, wheels):
    """A repository that lists torch, which the common index has with CUDA."""
    tiny.wheel(wheels, "cuda", {"cuda/__init__.py": "x = 1\n"})
    tiny.wheel(
        wheels, "torch", {"torch/__init__.py": "x = 1\n"}, requires=["cuda"], version="2.9.0"
    )
    (repo / "model_manager.py").write_text("import torch\n")
    (repo / "conda.yaml").write_text("dependencies:\n  - pip:\n    - torch==2.9.0\n")
    commit(repo)
    return repo


def torch_of(folder):
    (_, _, packages, _), _ = names_in(folder)
    return {name.removeprefix(f"{SITE}/").partition("/")[0] for name in packages if "/" in name}


@pytest.mark.slow
def test_torch_comes_without_cuda_if_that_is_wanted(
    torch_repo, pytorch, image, tmp_path, capsys, monkeypatch
):
    image("--cpu")
    assert {"torch", "torch-2.9.0+cpu.dist-info"} <= torch_of(tmp_path / "out")
    assert "cuda" not in torch_of(tmp_path / "out")
    assert "/whl/cpu/torch/" in pytorch
    monkeypatch.setattr("flops_fl.images.deps._inferred", lambda *_: ([], ""))
    run(["deps", str(torch_repo), "--write", "--cpu"])
    assert "torch==2.9.0+cpu" in (torch_repo / "requirements.lock").read_text()
    image("--cpu", out="locked")
    assert "torch-2.9.0+cpu.dist-info" in torch_of(tmp_path / "locked")
    (torch_repo / "requirements.lock").unlink()
    image(out="whole")
    assert {"cuda", "torch-2.9.0.dist-info"} <= torch_of(tmp_path / "whole")


def test_if_pytorchs_index_is_away_one_sentence_says_so(torch_repo, image, monkeypatch, tmp_path):
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("UV_HTTP_RETRIES", "0")
    with pytest.raises(UsageError, match=f"package index cannot be reached .*{HOST}") as told:
        image("--cpu")
    assert "\n" not in str(told.value)
    assert "name a mirror, UV_INDEX=URL and no --cpu" in str(told.value)
    assert [*tmp_path.glob("*out*")] == []
