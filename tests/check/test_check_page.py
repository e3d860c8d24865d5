"""docs/check.md: its commands run as printed, and it has a line for each kind of finding."""

import re
import shlex
from pathlib import Path

import pytest

from tests.check.test_check_planted import BUILT, STATIC, TRAINED
from tests.conftest import ROOT
from tests.pages import blocks

PAGE = (ROOT / "docs" / "check.md").read_text()


def test_each_kind_of_finding_has_a_line():
    for folder in (ROOT / "flops_fl" / "check").glob("*.py"):
        text = folder.read_text()
        made = re.findall(r'(?:error|warning|remark)\(\s*"([a-z-]+)"', text)
        for rule in {*made, *re.findall(r'rule(?:, what)? = "([a-z-]+)"', text)}:
            assert f"`{rule}`" in PAGE, rule
    for rule, *_ in (*STATIC, *BUILT, *TRAINED):
        assert f"`{rule}`" in PAGE or rule.startswith("fails-"), rule


@pytest.mark.slow
def test_a_repository_is_begun_checked_and_trained_as_printed(tmp_path, run_cli):
    run_cli(
        "flops_fl", "data", "partition", "breast-cancer", "--parts", "3", "--tag", "cells",
        "--out", tmp_path / "parts", cwd=tmp_path, env={"PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    (commands,) = blocks(PAGE)
    said = ""
    for line in commands.splitlines():
        program, *words = shlex.split(line)
        assert program == "flops-fl"
        more = ["--no-tracking"] if words[0] == "simulate" else []
        code, out, err = run_cli(
            "flops_fl", *words, *more, cwd=tmp_path, env={"PYTHONPATH": str(ROOT)}
        )
        assert code == 0, err
        said += out
    assert "0 errors, 0 warnings\n" in said
    assert Path(tmp_path, "runs", "cells", "result.json").is_file()
