"""docs/projects.md and the README: what they show of projects works as printed."""

import json
import os
import subprocess
import sys

import pytest

from flops_fl.options.project import ProjectRunOptions
from flops_fl.options.reading import build
from flops_fl.project.sla import Sla, TrainingConfiguration, read_sla
from flops_fl.project.team import team_of
from tests.conftest import EXAMPLES, LIMIT, ROOT
from tests.pages import blocks, files, marked

PAGE = (ROOT / "docs" / "projects.md").read_text()
PROJECTS = EXAMPLES / "projects"


def test_the_file_that_the_page_shows_is_the_example():
    for name, content in files(PAGE).items():
        assert (ROOT / name).read_text() == content


@pytest.mark.parametrize("file", sorted(PROJECTS.iterdir()), ids=lambda file: file.name)
def test_the_examples_have_no_mistake(file):
    sla = read_sla(file)
    options = build(ProjectRunOptions, {"sla": file, "data": "mnist=digits"})
    assert len(team_of(sla, options).learners) == (4 if sla.training.hierarchical else 3)
    assert sla.ml_repo_url == str(EXAMPLES / "mnist_sklearn")


def test_the_page_has_every_key_of_the_file():
    for name, field in Sla.model_fields.items():
        assert f"| `{field.alias or name}` |" in PAGE
    for name in TrainingConfiguration.model_fields:
        assert f"| – `{name}` |" in PAGE


@pytest.mark.slow
@pytest.mark.timeout(5 * LIMIT)
def test_the_commands_work_as_printed(tmp_path):
    (tmp_path / "examples").symlink_to(EXAMPLES)
    path = os.pathsep.join([os.path.dirname(sys.executable), os.environ["PATH"]])
    commands = [
        block.text for block in marked(PAGE) if block.language == "bash" and not block.left_out
    ]
    assert len(commands) == 2
    readme = (ROOT / "README.md").read_text().partition("\n## A FLOps project")[2]
    assert blocks(readme)[0].strip().split()[:6] == commands[0].replace("\\\n", "").split()[:6]
    for command in commands:
        done = subprocess.run(
            ["bash", "-ec", command], cwd=tmp_path, capture_output=True, text=True, check=False,
            timeout=3 * LIMIT, env={**os.environ, "PATH": path, "PYTHONPATH": str(ROOT)},
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
    plan = done.stdout.replace(str(EXAMPLES), "examples")
    shown = [line for line in blocks(PAGE)[3].splitlines() if line.startswith("flops-fl")]
    for line in shown:
        for part in line.split(" ... "):
            assert part.removesuffix("&").strip() in plan
    result = json.loads((tmp_path / "runs" / "digits" / "result.json").read_text())
    assert (result["status"], len(result["rounds"])) == ("completed", 4)
    assert result["rounds"][-1]["accuracy"] > 0.8
