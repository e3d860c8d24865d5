"""The commands that pages and READMEs tell a newcomer to type work as printed.

README.md, first-repository.md, several-machines.md, hierarchy.md, and README.md of each example.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import EXAMPLES, LIMIT, NUMPY, ROOT
from tests.pages import blocks, files
from tests.trees import free_address

pytestmark = [pytest.mark.slow, pytest.mark.timeout(5 * LIMIT)]

FIRST = (ROOT / "docs" / "first-repository.md").read_text()
MACHINES = (ROOT / "docs" / "several-machines.md").read_text()
CLUSTERS = (ROOT / "docs" / "hierarchy.md").read_text()
NEEDED = {"cancer_xgboost": "xgboost", "digits_pytorch": "torch"}


@pytest.fixture
def follow(tmp_path):
    """Runs commands, or lines of Python, in the reader's folder; gives stdout and stderr."""
    (tmp_path / "examples").symlink_to(EXAMPLES)
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])

    def run(text, shell=("bash", "-ec")):
        done = subprocess.run(
            [*shell, text], cwd=tmp_path, capture_output=True, text=True, timeout=2 * LIMIT,
            check=False, env={**os.environ, "PATH": path, "PYTHONPATH": str(ROOT)},
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout, done.stderr

    return run


def together(commands):
    """Commands of several actors, on a port that is free."""
    here = free_address()
    listening = commands.replace("--rounds", f"--listen {here} --rounds", 1)
    return listening.replace("127.0.0.1:8080", here)


def result(folder):
    return json.loads((folder / "result.json").read_text())


def test_the_first_repository_becomes_a_model(follow, tmp_path):
    shown = files(FIRST)
    assert list(shown) == ["cells/data_manager.py", "cells/model_manager.py", "cells/conda.yaml"]
    for name, content in shown.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(content)
    python = (sys.executable, "-c")
    cut, simulate, processes = blocks(FIRST, "bash")
    alone, load = (block for block in blocks(FIRST, "python") if block not in shown.values())
    follow(cut)
    before, after = follow(alone, python)[0].splitlines()
    assert float(before.split(", ")[1]) < 0.7 < float(after.split(", ")[1])
    assert "runs/cells" in follow(simulate)[1]
    assert follow(load, python)[0].startswith("[-0.")
    follow(together(processes))
    simulated, real = (result(tmp_path / "runs" / name) for name in ("cells", "together"))
    assert simulated["status"] == real["status"] == "completed"
    assert simulated["model_sha256"] == real["model_sha256"]
    assert simulated["rounds"][-1]["accuracy"] > 0.9


def test_the_rehearsal_of_a_tree(follow, tmp_path):
    _, block = blocks(CLUSTERS, "bash")
    for port in (8080, 8081):
        block = block.replace(f"127.0.0.1:{port}", free_address())
    follow(block)
    last = result(tmp_path / "runs" / "tree")["rounds"][-1]
    assert last["learners"] == ["a", "l2"]
    assert last["clusters"] == {"a": {"learners": 2, "failures": 0}}


def test_the_rehearsal_of_several_machines(follow, tmp_path):
    (block,) = blocks(MACHINES, "bash")
    follow(together(block))
    rounds = result(tmp_path / "runs" / "rehearsal")["rounds"]
    assert [record["learners"] for record in rounds] == [["learner-a", "learner-b"]] * 3


def test_the_readme_on_one_machine(follow, tmp_path):
    text = (ROOT / "README.md").read_text()
    (parts,) = (line for line in text.split("`") if line.startswith("flops-fl data partition"))
    follow(parts)
    (tmp_path / "my.parquet").symlink_to(next((tmp_path / "parts" / "part-0").iterdir()))
    (block,) = (block for block in blocks(text) if "flops-fl simulate" in block)
    check, simulate = (line for line in block.splitlines() if line.startswith("flops-fl"))
    assert follow(check.replace("path/to/repo", str(NUMPY)))[0].endswith("0 warnings\n")
    follow(simulate.replace("path/to/repo", str(NUMPY)))
    rounds = result(tmp_path / "runs" / "numpy_minimal")["rounds"]
    assert [len(record["learners"]) for record in rounds] == [50] * 10


@pytest.mark.parametrize("name", sorted(path.parent.name for path in EXAMPLES.glob("*/README.md")))
def test_an_example_is_started_as_its_readme_says(name, follow, tmp_path):
    if name in NEEDED:
        pytest.importorskip(NEEDED[name])
    (block,) = blocks((EXAMPLES / name / "README.md").read_text())
    assert block.rstrip() in (EXAMPLES / "README.md").read_text()
    follow(block)
    assert result(tmp_path / "runs" / name)["status"] == "completed"
