"""Bytecode is made ahead: the same bytes from the same file, whatever else is compiled."""

import importlib.util
import marshal

from flops_fl.images.bytecode import Bytecode
from flops_fl.images.layers import Member
from tests.images.tiny import PYTHON

FILES = {
    "one": "def name(value):\n    return {'alpha', 'beta', 'gamma'} & {value}, 'shared'\n",
    "two": "def name(other):\n    value = 'shared'\n    return value, 'alpha', other\n",
    "three": "class Gamma:\n    beta = 'alpha'\n\n    def shared(self):\n        self.beta\n",
    "broken": "def (\n",
}


def compiled(folder, names):
    """The bytecode of some files, by path, compiled in this order."""
    folder.mkdir(parents=True)
    (folder / "pyc").mkdir()
    members = []
    for name in names:
        (folder / f"{name}.py").write_text(FILES[name])
        members.append(Member(path=f"app/{name}.py", content=folder / f"{name}.py"))
    bytecode = Bytecode(PYTHON, folder / "pyc")
    bytecode.make(members)
    return {each.path: each.content.read_bytes() for each in bytecode.of(members)}


def test_it_depends_on_the_file_alone(tmp_path, monkeypatch):
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {0})  # all by one process
    together = compiled(tmp_path / "a", ["one", "two", "three"])
    turned = compiled(tmp_path / "b", ["three", "two", "one"])
    assert together == turned
    for name in ("one", "two", "three"):
        assert compiled(tmp_path / name, [name]).items() <= together.items()


def test_it_is_what_python_looks_for(tmp_path):
    tag = f"cpython-{PYTHON.replace('.', '')}"
    found = compiled(tmp_path / "a", ["one", "broken"])
    assert list(found) == [f"app/__pycache__/one.{tag}.pyc"]
    content = found[f"app/__pycache__/one.{tag}.pyc"]
    assert content[:4] == importlib.util.MAGIC_NUMBER
    assert content[4:8] == b"\x01\0\0\0"  # by the hash of its source, which nobody checks
    assert marshal.loads(content[16:]).co_filename == "/app/one.py"
