"""The pages of the docs are true, as far as a program can tell."""

import re
import shlex

import pytest

import flops_fl
from docs.make.api import PUBLIC, api_page
from docs.make.options import PAGE, options_page
from flops_fl.options.described import flag
from flops_fl.table import COMMANDS
from tests.pages import COMMAND, ROOT, joined, marked

PAGES = [ROOT / "README.md", *ROOT.glob("docs/*.md"), *ROOT.glob("examples/**/README.md")]
PAGES.remove(ROOT / "docs" / "errors.md")  # mistakes


def test_the_page_of_options_is_that_of_the_options():
    assert PAGE.read_text() == options_page(), "make options writes it"


def test_the_page_of_the_api_has_what_the_package_gives():
    assert PUBLIC.keys() == flops_fl._PUBLIC.keys()
    page = api_page(ROOT)
    for name, module in flops_fl._PUBLIC.items():
        assert PUBLIC[name] == f"{module.replace('.', '/')}.py"
        assert f"flops_fl.{name}(\n    " in page


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_each_block_of_commands_is_run_by_a_test_or_says_why_not(page):
    for block in marked(page.read_text()):
        if COMMAND.search(block.text):
            assert block.mark, f"{page.name}: no mark before {block.text}"
        if block.mark and block.mark[1] == "run by":
            assert page.name in (ROOT / block.mark[2]).read_text(), block.mark[0]


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_each_option_that_is_shown_is_one_of_its_command(page):
    known = {
        f"{start} {name}": {flag(field) for field in command.options_class.model_fields}
        for name, command in COMMANDS.items()
        for start in ("flops-fl", "python -m")
    }
    for line in joined(page.read_text()):
        prog = next((p for p in sorted(known, key=len)[::-1] if line.startswith(f"{p} ")), None)
        assert prog or not re.match("flops-fl .*--", line), line
        if prog:
            words = shlex.split(line.partition(" -- ")[0], comments=True)
            given = {word.partition("=")[0] for word in words if word.startswith("--")}
            assert given <= known[prog] | {"--help", "--help-all"}, line
