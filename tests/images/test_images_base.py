"""Base images: from a layout, from a registry; what they have decides what is installed."""

import os
import re
from pathlib import Path

import pytest

from flops_fl.errors import UsageError
from flops_fl.images.base import fetch_base
from flops_fl.images.layout import Layout
from flops_fl.images.registry import Reference
from tests.images import tiny

AMD64 = "linux/amd64"
NONE = Layout(Path("none"))


@pytest.fixture
def layout(tmp_path):
    (tmp_path / "built").mkdir()
    return Layout.create(tmp_path / "built")


def test_a_base_is_taken_from_a_layout(tmp_path, layout):
    folder = tiny.base(tmp_path / "base", python="3.12")
    base = fetch_base(str(folder), "linux/arm64", layout, NONE)
    assert (base.folder, base.python) == ("/usr/local/bin", "3.12")
    assert base.uv_platform == "aarch64-manylinux_2_36"
    assert base.config["architecture"] == "arm64"
    assert layout.path(base.layers[0].digest).exists()


@pytest.mark.parametrize("token", ["", "secret"])
def test_a_base_is_pulled_from_a_registry_with_what_it_asks_for(tmp_path, layout, token):
    with tiny.registry() as kept:
        tiny.fill(kept, tiny.base(tmp_path / "base"))
        kept.token = token
        name = f"{kept.address}/me/base:1"
        base = fetch_base(name, AMD64, layout, NONE)
        assert base.uv_platform == "x86_64-manylinux_2_36"
        assert layout.path(base.layers[0].digest).exists()
        asked = [call for call in kept.calls if call.startswith("GET /token")]
        assert len(asked) == bool(token)
        assert all("scope=repository%3Ame%2Fbase%3Apull" in call for call in asked)


def test_what_an_earlier_layout_has_is_not_pulled_again(tmp_path, layout):
    earlier = Layout(tiny.base(tmp_path / "base", AMD64))
    with tiny.registry() as kept:
        tiny.fill(kept, earlier.folder)
        fetch_base(f"{kept.address}/me/base:1", AMD64, layout, earlier)
        assert not [call for call in kept.calls if "/blobs/" in call]


def test_a_blob_with_other_bytes_is_refused(tmp_path, layout):
    with tiny.registry() as kept:
        tiny.fill(kept, tiny.base(tmp_path / "base", AMD64))
        for digest, content in kept.blobs.items():
            if digest not in kept.manifests:
                kept.blobs[digest] = content + b" "
        with pytest.raises(UsageError, match="gave other bytes for sha256:"):
            fetch_base(f"{kept.address}/me/base:1", AMD64, layout, NONE)


def test_a_base_that_is_not_there_is_one_sentence(tmp_path, layout):
    with tiny.registry() as kept, pytest.raises(UsageError) as told:
        fetch_base(f"{kept.address}/me/base:2", AMD64, layout, NONE)
    assert str(told.value) == (
        f"{kept.address} refuses {kept.address}/me/base:2 (404 Not Found): check its name and tag"
    )
    with pytest.raises(UsageError, match="cannot be reached .*give --base a folder"):
        fetch_base(f"{kept.address}/me/base:1", AMD64, layout, NONE)
    with pytest.raises(UsageError, match="is no OCI image layout"):
        fetch_base(str(tmp_path), AMD64, layout, NONE)


def test_a_base_for_another_platform_is_refused_by_name(tmp_path, layout):
    folder = tiny.base(tmp_path / "base", "linux/arm64")
    with pytest.raises(UsageError, match=re.escape("no image for linux/amd64")):
        fetch_base(str(folder), AMD64, layout, NONE)


@pytest.mark.parametrize(
    ("hurt", "said"),
    [
        (
            lambda blob: os.truncate(blob, 40),
            "is damaged: .*/{} has other bytes than",
        ),
        (Path.unlink, "is a broken image .*/{}"),
    ],
)
def test_a_base_that_is_damaged_is_named_with_its_file(tmp_path, layout, hurt, said):
    folder = tiny.base(tmp_path / "base", AMD64)
    blobs = (folder / "blobs" / "sha256").iterdir()
    (blob,) = [file for file in blobs if file.read_bytes().startswith(b"\x1f\x8b")]
    hurt(blob)
    with pytest.raises(UsageError, match=f"--base {folder} {said.format(blob.name)}"):
        fetch_base(str(folder), AMD64, layout, NONE)


@pytest.mark.parametrize(
    ("libc", "platform"),
    [
        (b"GNU C Library release version 2.31.", "x86_64-manylinux_2_31"),
        (b"GNU C Library release version 2.30.", "x86_64-manylinux_2_28"),
        (b"GNU C Library release version 2.99.", "x86_64-manylinux_2_40"),
        (b"another", "x86_64-manylinux_2_28"),
    ],
)
def test_wheels_are_for_the_bases_own_libc(tmp_path, layout, libc, platform):
    folder = tiny.base(tmp_path / "base", AMD64, libc=libc)
    assert fetch_base(str(folder), AMD64, layout, NONE).uv_platform == platform


@pytest.mark.parametrize(
    ("text", "url", "tag"),
    [
        ("python:3.12-slim", "https://registry-1.docker.io/v2/library/python/", "3.12-slim"),
        ("me/base", "https://registry-1.docker.io/v2/me/base/", "latest"),
        ("localhost:5000/a/b:1", "http://localhost:5000/v2/a/b/", "1"),
        ("r.example.org/a:1", "https://r.example.org/v2/a/", "1"),
        (f"r.example.org/a@sha256:{'0' * 64}", "https://r.example.org/v2/a/", f"sha256:{'0' * 64}"),
    ],
)
def test_names_of_images_are_dockers(text, url, tag):
    found = Reference.parse(text)
    assert (found.url, found.tag) == (url, tag)


@pytest.mark.parametrize("text", ["", "Python:3", "a b", "a:b:c/", "/x"])
def test_what_is_no_name_is_refused(text):
    with pytest.raises(UsageError, match="expected a name such as python:3.12-slim"):
        Reference.parse(text)
