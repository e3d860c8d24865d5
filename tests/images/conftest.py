"""A tiny repository, and a package index of a few lines instead of all that the runtime needs."""

import json
import struct

import pytest

from flops_fl.cli import run
from tests.images import tiny
from tests.images.tiny import PYTHON, commit, git

ELF = {"x86_64": 62, "aarch64": 183}


def elf(machine):
    return (b"\x7fELF" + bytes(14) + struct.pack("<H", ELF[machine])).decode("latin-1")


@pytest.fixture
def wheels(tmp_path, monkeypatch):
    """A package index of a few lines, instead of all that the runtime needs."""
    folder = tmp_path / "wheels"
    tiny.wheel(folder, "wire", {"wire/__init__.py": "import sys\n", "bin/wire": "#!"})
    tiny.wheel(
        folder,
        "frame",
        {
            "frame/__init__.py": "from frame.inner import x\n",
            "frame/inner.py": "x = 1\n",
            "frame/tests/__init__.py": "",
            "frame/tests/test_inner.py": "assert 1\n",
        },
        requires=["wire"],
    )
    tiny.wheel(
        folder,
        "checked",
        {
            "checked/__init__.py": "from checked.tests import x\n",
            "checked/tests/__init__.py": "x = 1\n",
        },
    )
    tiny.wheel(folder, "uv", {"uv/__init__.py": ""})
    tiny.wheel(folder, "tracking", {"tracking/__init__.py": ""}, requires=["wire"])
    for machine in ELF:
        tiny.wheel(
            folder, "fast", {f"fast/x.{machine}.so": elf(machine)},
            tag=f"cp{PYTHON.replace('.', '')}-abi3-manylinux_2_28_{machine}", requires=["wire"],
        )  # fmt: skip
    tiny.small_runtime(monkeypatch.setattr)
    monkeypatch.setenv("UV_FIND_LINKS", str(folder))
    (tmp_path / "index").mkdir()
    monkeypatch.setenv("UV_DEFAULT_INDEX", (tmp_path / "index").as_uri())
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "cache"))
    return folder


@pytest.fixture
def repo(tmp_path):
    folder = tmp_path / "Digits_Model"
    folder.mkdir()
    (folder / "model_manager.py").write_text("class ModelManager:\n    pass\n")
    (folder / "conda.yaml").write_text(
        "dependencies:\n  - python=3.10.14\n  - pip:\n      - frame==1.0\n      - fast\n"
        "      - mlflow==2.0\n      - checked\n"
    )
    git(folder, "init", "-q")
    git(folder, "remote", "add", "origin", "https://example.org/Some-One/Digits_Model.git")
    commit(folder)
    return folder


@pytest.fixture
def image(tmp_path, repo, wheels, capsys):
    """Runs flops-fl image; gives its JSON."""
    base = tiny.base(tmp_path / "base", python=PYTHON)

    def call(*options, out="out"):
        run(
            [
                "image",
                str(repo),
                "--base",
                str(base),
                "--out",
                str(tmp_path / out),
                "--json",
                *options,
            ]
        )
        return json.loads(capsys.readouterr().out)

    return call
