"""Bytecode is made ahead: the same bytes from the same file, whatever else is compiled."""

import importlib.util
import marshal
from pathlib import Path

import pytest
import sklearn

from flops_fl.images.bytecode import Bytecode
from flops_fl.images.layers import Member
from tests.images.tiny import PYTHON

FILES = {
    "one": "def name(value):\n    return {'alpha', 'beta', 'gamma'} & {value}, 'shared'\n",
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


@pytest.mark.slow
def test_it_depends_on_the_file_alone(tmp_path, monkeypatch):
    """Of scikit-learn's files two differed, as long as the code of the file before was alive."""
    folder = Path(sklearn.__file__).parent
    found = {}
    for processes in (1, 2, 3):
        work = tmp_path / str(processes)
        work.mkdir()
        monkeypatch.setattr("os.sched_getaffinity", lambda _, count=processes: range(count))
        bytecode = Bytecode(PYTHON, work)
        members = [
            Member(path=f"app/{path.relative_to(folder)}", content=path)
            for path in sorted(folder.rglob("*.py"))
        ]
        bytecode.make(members)
        found[processes] = {each.path: each.content.read_bytes() for each in bytecode.of(members)}
    assert len(found[1]) > 500
    assert found[1] == found[2] == found[3]


def test_it_is_what_python_looks_for(tmp_path):
    tag = f"cpython-{PYTHON.replace('.', '')}"
    found = compiled(tmp_path / "a", ["one", "broken"])
    assert list(found) == [f"app/__pycache__/one.{tag}.pyc"]
    content = found[f"app/__pycache__/one.{tag}.pyc"]
    assert content[:4] == importlib.util.MAGIC_NUMBER
    assert content[4:8] == b"\x01\0\0\0"  # by the hash of its source, which nobody checks
    assert marshal.loads(content[16:]).co_filename == "/app/one.py"
