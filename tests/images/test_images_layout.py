"""Layers and layouts: the same content gives the same bytes, and other tools can read them."""

import gzip
import hashlib
import io
import json
import tarfile

from hypothesis import given
from hypothesis import strategies as st

from flops_fl.images import layers
from flops_fl.images.layers import Member, write_layer
from flops_fl.images.layout import LAYER, Descriptor, Layout
from tests.images import tiny


def layout(folder):
    folder.mkdir()
    return Layout.create(folder)


def names(layer, at):
    with tarfile.open(at.path(layer.blob.digest)) as tar:
        return tar.getnames()


def test_a_layer_does_not_depend_on_the_order_or_the_times_of_its_files(tmp_path):
    file = tmp_path / "a"
    file.write_text("1")
    members = [
        Member(path="app/b", content=b"2"),
        Member(path="app/a", content=file),
        Member(path="app/c", target="a"),
    ]
    one = write_layer("code", members, layout(tmp_path / "one"))
    file.touch()
    file.chmod(0o600)
    other = write_layer("code", members[::-1], layout(tmp_path / "other"))
    assert one == other
    assert one.unpacked == 2


def test_a_layer_has_its_folders_and_belongs_to_root(tmp_path):
    at = layout(tmp_path / "layout")
    members = [
        Member(path="app/x/run", content=b"#!", mode=0o755),
        Member(path="app/l", target="x"),
    ]
    layer = write_layer("code", members, at)
    assert names(layer, at) == ["app", "app/l", "app/x", "app/x/run"]
    with tarfile.open(at.path(layer.blob.digest)) as tar:
        assert {(info.uid, info.gid, info.mtime) for info in tar} == {(0, 0, 0)}
        assert tar.getmember("app/x/run").mode == 0o755
        assert tar.getmember("app/x").mode == 0o755
        assert tar.getmember("app/l").linkname == "x"


@given(st.binary(max_size=2000), st.integers(1, 700))
def test_what_is_compressed_in_pieces_is_one_gzip_file(content, piece):
    out = io.BytesIO()
    before, layers.PIECE = layers.PIECE, piece
    try:
        with layers._Gzip(out) as packed:
            packed.write(content[:50])
            packed.write(content[50:])
            digest = packed.finish()
    finally:
        layers.PIECE = before
    assert gzip.decompress(out.getvalue()) == content
    assert digest == f"sha256:{hashlib.sha256(content).hexdigest()}"


def test_what_two_layers_have_in_common_is_compressed_once(tmp_path, monkeypatch):
    def members(machine):
        yield Member(path="site/a/__config__.py", content=machine.encode() * 99)
        yield Member(path="site/a/fast.so", content=machine.encode() * 5000)
        yield Member(path="site/a-1.dist-info/RECORD", content=machine.encode())
        yield from (Member(path=f"site/b/{n}.py", content=b"x = 1\n" * n) for n in range(999))

    sent, deflate = [], layers._deflate
    monkeypatch.setattr(layers, "_deflate", lambda piece, flush: (
        sent.append(len(piece)), deflate(piece, flush)
    )[1])  # fmt: skip
    at, known = layout(tmp_path / "layout"), {}
    amd64 = write_layer("site", members("x86_64"), at, known)
    first = sum(sent)
    arm64 = write_layer("site", members("aarch64"), at, known)
    assert sum(sent) - first < 0.2 * first
    for machine, layer in {"x86_64": amd64, "aarch64": arm64}.items():
        assert write_layer("site", members(machine), at) == layer  # as if it were the only one
        with tarfile.open(at.path(layer.blob.digest)) as tar:
            for each in members(machine):
                assert tar.extractfile(each.path).read() == each.content


def test_blobs_are_named_by_what_is_in_them(tmp_path):
    at = layout(tmp_path / "layout")
    layer = write_layer("code", [Member(path="a", content=b"x" * 5_000_000)], at)
    content = at.path(layer.blob.digest).read_bytes()
    assert layer.blob == Descriptor(
        LAYER, f"sha256:{hashlib.sha256(content).hexdigest()}", len(content)
    )
    assert layer.diff_id == f"sha256:{hashlib.sha256(gzip.decompress(content)).hexdigest()}"


def test_a_layout_says_what_is_in_it(tmp_path):
    folder = tiny.base(tmp_path / "base")
    assert json.loads((folder / "oci-layout").read_text()) == {"imageLayoutVersion": "1.0.0"}
    (image,) = Layout(folder).index()
    assert image.name == "base:1"
    inner = Layout(folder).document(image.digest)["manifests"]
    assert [each["platform"] for each in inner] == [
        {"os": "linux", "architecture": "amd64"},
        {"os": "linux", "architecture": "arm64"},
    ]
