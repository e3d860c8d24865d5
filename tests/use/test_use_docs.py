"""The code and commands in docs/use-the-model.md run as printed."""

import os
import re
import subprocess
import sys

import pytest

from tests.conftest import LIMIT, ROOT
from tests.pages import marked

PAGE = (ROOT / "docs" / "use-the-model.md").read_text()


@pytest.mark.slow
def test_the_commands_and_lines_for_a_run_work_as_printed(tmp_path, run_cli):
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    place = {"PYTHONPATH": str(ROOT)}
    shown = "".join(block.text for block in marked(PAGE) if not block.left_out)
    commands = re.findall(r"^flops-fl (.*)$", shown, re.M)
    assert len(commands) == 4
    for command in commands:
        words, _, file = command.partition(" > ")
        code, out, err = run_cli("flops_fl", *words.split(), cwd=tmp_path, env=place)
        assert code == 0, err
        if file:
            (tmp_path / file).write_text(out)
    (block,) = re.findall(
        r"^```python\n(.*?)^```", PAGE.partition("\n## The model")[2], re.M | re.S
    )
    (tmp_path / "more.py").write_text(f"{out}\n{block}\nprint(len(parameters))")
    done = subprocess.run(
        [sys.executable, "more.py"], cwd=tmp_path, capture_output=True, text=True, timeout=LIMIT,
        check=False, env=os.environ | place,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("\n2\n")


def test_the_lines_for_a_script_run_as_printed(tmp_path, digits):
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    (tmp_path / "parts").symlink_to(digits)
    blocks = re.findall(r"^```python\n(.*?)^```", PAGE.partition("\n## The model")[0], re.M | re.S)
    assert len(blocks) == 2
    done = subprocess.run(
        [sys.executable, "-c", "\n".join(blocks)],
        cwd=tmp_path, capture_output=True, text=True, timeout=LIMIT, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert re.match(r"479 \(.*, 120\)\n64 \(.*, 120\)\n", done.stdout), done.stdout
