"""Standard streams that nobody reads, or that are closed: a run goes on to its end and says how
it went by its exit code and its files."""

import json
import os
import shlex
import subprocess
import sys

import pytest

from tests.conftest import LIMIT, NUMPY, ROOT, wait_for_port

PRINTING = """
import atexit, ctypes, os, subprocess, sys
from model_manager_plain import ModelManager as Plain

def say():
    print("by print", flush=True)
    print("by print", file=sys.stderr, flush=True)
    os.write(1, b"by os")
    ctypes.CDLL(None).printf(b"by printf")
    subprocess.run(["true"], check=True)

class ModelManager(Plain):
    def __init__(self):
        super().__init__()
        say()

    def fit_model(self):
        say()
        return super().fit_model()

say()
atexit.register(say)
"""


@pytest.fixture
def printing_repo(tmp_path):
    folder = tmp_path / "repo"
    folder.mkdir()
    (folder / "model_manager_plain.py").write_text((NUMPY / "model_manager.py").read_text())
    (folder / "data_manager.py").write_text((NUMPY / "data_manager.py").read_text())
    plain = PRINTING.replace('    os.write(1, b"by os")\n', "")  # which fails by itself
    (folder / "model_manager.py").write_text(plain)
    return folder


def shell(folder, redirected, *command):
    """A command as a shell starts it; it leaves its exit code in a file."""
    line = shlex.join([sys.executable, "-m", *map(str, command)])
    return subprocess.Popen(
        ["sh", "-c", redirected.replace("COMMAND", f"{{ {line}; echo $? > code; }}")],
        cwd=folder, env={**os.environ, "PYTHONPATH": str(ROOT)}, start_new_session=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def ended(folder, process):
    """Its exit code and what was said."""
    said = process.communicate(timeout=LIMIT)
    return int((folder / "code").read_text()), said


def completed(folder):
    return json.loads((folder / "run" / "result.json").read_text())["status"] == "completed"


WAYS = [
    "COMMAND 2>&1 | head -n 1",
    pytest.param("COMMAND >&- 2>&-", marks=pytest.mark.slow),
    pytest.param("COMMAND 2>&-", marks=pytest.mark.slow),
    pytest.param("COMMAND <&- >&-", marks=pytest.mark.slow),
    pytest.param("COMMAND > /dev/full 2>&1", marks=pytest.mark.slow),
]


@pytest.mark.slow
@pytest.mark.parametrize("way", WAYS)
def test_both_actors_outlive_their_streams(tmp_path, processes, digits, printing_repo, way):
    for name in ("leads", "learns"):
        (tmp_path / name).mkdir()
    leads = shell(
        tmp_path / "leads", way, "aggregator", printing_repo, "--listen", processes.address,
        "--rounds", 2, "--output", tmp_path / "run", "--no-tracking",
    )  # fmt: skip
    wait_for_port(processes.address)
    learns = shell(
        tmp_path / "learns", way, "learner", printing_repo, "--aggregator", processes.address,
        "--data", digits / "part-0",
    )  # fmt: skip
    assert ended(tmp_path / "learns", learns)[0] == 0
    assert ended(tmp_path / "leads", leads)[0] == 0
    assert completed(tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("way", WAYS)
def test_so_does_a_simulation(tmp_path, printing_repo, way):
    process = shell(
        tmp_path, way, "flops_fl", "simulate", printing_repo, "--learners", 2, "--rounds", 2,
        "--output", "run", "--no-tracking",
    )  # fmt: skip
    assert ended(tmp_path, process)[0] == 0
    assert completed(tmp_path)


@pytest.mark.parametrize(
    ("way", "why"),
    [
        ("COMMAND", ""),
        pytest.param("COMMAND > /dev/full", "No space left on device", marks=pytest.mark.slow),
        pytest.param("COMMAND | true", "Broken pipe", marks=pytest.mark.slow),
    ],
)
def test_json_is_the_document_alone_or_a_warning(tmp_path, printing_repo, way, why):
    """Also of code that prints when Python ends, and of C's buffers, which are written then."""
    printing = (printing_repo / "model_manager.py").read_text()
    (printing_repo / "model_manager.py").write_text(
        printing.replace("    subprocess.run", '    os.write(1, b"by os")\n    subprocess.run')
    )
    process = shell(
        tmp_path, way, "flops_fl", "simulate", printing_repo, "--learners", 1, "--rounds", 1,
        "--output", "run", "--no-tracking", "--json",
    )  # fmt: skip
    code, (out, err) = ended(tmp_path, process)
    assert code == 0, err
    if why:
        assert f"--json: result.json cannot be printed on stdout ({why})" in err
    else:
        assert json.loads(out) == json.loads((tmp_path / "run" / "result.json").read_text())
        assert "by printf" in err
