"""A base image made of this machine's own Python, and images' file systems to start actors from."""

import os
import re
import stat
import subprocess
import sys
import sysconfig
import tarfile
from pathlib import Path

from flops_fl.images.layers import Member, write_layer
from flops_fl.images.layout import CONFIG, INDEX, MANIFEST, REF_NAME, Descriptor, Layout, index_of
from tests.images.tiny import PYTHON

LEFT_OUT = {
    "site-packages",
    "dist-packages",
    "test",
    "tests",
    "idlelib",
    "__pycache__",
    "ensurepip",
}


def base(folder):
    """A layout with a base image for amd64, of this machine's files, and an empty one for arm64."""
    folder.mkdir()
    layout, manifests = Layout.create(folder), []
    arm64 = [Member(path=f"usr/local/bin/python{PYTHON}", content=b"")]
    for platform, members in {"linux/amd64": list(_files()), "linux/arm64": arm64}.items():
        layer = write_layer("base", members, layout)
        config = {
            "os": "linux",
            "architecture": platform.partition("/")[2],
            "rootfs": {"type": "layers", "diff_ids": [layer.diff_id]},
        }
        document = {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": layout.add(CONFIG, config).as_json(),
            "layers": [layer.blob.as_json()],
        }
        made = layout.add(MANIFEST, document)
        manifests.append(Descriptor(MANIFEST, made.digest, made.size, platform))
    top = layout.add(INDEX, index_of(manifests))
    layout.close([Descriptor(INDEX, top.digest, top.size, annotations={REF_NAME: "machine:1"})])
    return folder


def _files():
    """Python, its standard library, and the shared objects that they and wheels need."""
    program = Path(sys.executable).resolve()
    yield Member(path=f"usr/local/bin/python{PYTHON}", content=program, mode=0o755)
    stdlib = Path(sysconfig.get_path("stdlib"))
    for folder, below, names in os.walk(stdlib):
        below[:] = [name for name in below if name not in LEFT_OUT]
        for name in names:
            file = Path(folder, name)
            if file.is_file():
                inside = file.relative_to(stdlib)
                yield Member(path=f"usr/local/lib/python{PYTHON}/{inside}", content=file)
    objects = [program, *stdlib.glob("lib-dynload/*.so")]
    said = subprocess.run(["ldd", *objects], capture_output=True, text=True, check=False).stdout
    said += subprocess.run(["ldconfig", "-p"], capture_output=True, text=True, check=False).stdout
    needed = set(re.findall(r"=> (/\S+) \(0x", said)) | set(
        re.findall(r"^\s+(/\S+) \(0x", said, re.M)
    )
    library = r"lib(?:stdc\+\+|gcc_s|rt|m|dl|util|pthread|resolv|nss_\w+)\.so\.\d+"
    needed |= set(re.findall(rf"{library} \(libc6,x86-64[^)]*\) => (/\S+)", said))
    for path in sorted(needed):
        yield Member(path=path.lstrip("/"), content=Path(path).resolve(), mode=0o755)
    yield Member(path="tmp", mode=0o1777)
    yield Member(path="etc/hosts", content=b"127.0.0.1 localhost\n")


def manifest_of(layout, image, platform):
    """The manifest of an image for a platform."""
    (chosen,) = [each for each in layout.manifests(image) if each.platform == platform]
    return layout.document(chosen.digest)


def unpack(layout_folder, into, role, platform="linux/amd64"):
    """Unpack an image, as a container engine does; gives its config."""
    layout = Layout(layout_folder)
    (top,) = [each for each in layout.index() if f"/{role}:" in each.name]
    document = manifest_of(layout, top, platform)
    for layer in document["layers"]:
        with tarfile.open(layout.path(layer["digest"])) as tar:
            tar.extractall(into, numeric_owner=True, filter="fully_trusted")
    return layout.document(document["config"]["digest"])["config"]


def machines_of(layout_folder, platform):
    """The machine of each shared object or program in a platform's images, by ELF's numbers."""
    numbers = {62: "x86_64", 183: "aarch64"}
    layout = Layout(layout_folder)
    documents = [manifest_of(layout, image, platform) for image in layout.index()]
    for digest in {layer["digest"] for document in documents for layer in document["layers"]}:
        with tarfile.open(layout.path(digest)) as tar:
            for member in tar:
                head = tar.extractfile(member).read(20) if member.isreg() else b""
                if head[:4] == b"\x7fELF":
                    yield member.name, numbers.get(int.from_bytes(head[18:20], "little"))


def start(root, config, *arguments, log):
    """Start an image's entry point inside its own file system, as its own user."""
    user = int(config["User"].partition(":")[0])
    (root / "dev").mkdir(exist_ok=True)
    for name, number in (("null", 3), ("urandom", 9)):
        if not (root / "dev" / name).exists():
            os.mknod(root / "dev" / name, 0o666 | stat.S_IFCHR, os.makedev(1, number))
            (root / "dev" / name).chmod(0o666)
    environment = dict(each.partition("=")[::2] for each in config["Env"])
    program = f"/app/env/bin/{config['Entrypoint'][0]}"

    def inside():
        os.chroot(root)
        os.chdir(config["WorkingDir"])
        os.setgroups([])
        os.setgid(user)
        os.setuid(user)

    return subprocess.Popen(
        [program, *config["Entrypoint"][1:], *arguments],
        env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
        preexec_fn=inside,  # noqa: PLW1509
    )  # fmt: skip
