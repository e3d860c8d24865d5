"""Completion in real shells: bash always, zsh and fish where they are installed."""

import shutil
import subprocess

import pytest

from flops_fl import cli
from flops_fl.options.completion import Entry, script
from flops_fl.options.described import described, flag
from flops_fl.table import COMMANDS

ENTRIES = {name: Entry(entry.line, entry.options_class) for name, entry in COMMANDS.items()}

ASKED = {
    "flops-fl si": ["simulate"],
    "flops-fl pki ": ["init", "request", "sign", "enroll", "--help", "--version"],
    "flops-fl pki e": ["enroll"],
    "flops-fl simulate repo --round": ["--rounds", "--round-timeout"],
    "flops-fl simulate repo --large-updates ": ["clip", "refuse"],
    "flops-fl simulate repo --large-updates=cl": ["clip"],
    "flops-fl data partition x --out here --par": ["--parts", "--partition"],
    "flops-fl pki sign x --role l": ["learner"],
    "flops-fl completion f": ["fish"],
    "flops-fl run repo -- python --": [],
}


@pytest.fixture(scope="module")
def scripts(tmp_path_factory):
    folder = tmp_path_factory.mktemp("completion")
    for shell in ("bash", "zsh", "fish"):
        (folder / shell).write_text(script(shell, ENTRIES))
    return folder


BASH = """
source "$1"; shift
for line in "$@"; do
    # Readline splits at = as well.
    COMP_WORDS=(${line//=/ = }); [[ $line == *" " ]] && COMP_WORDS+=("")
    COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
    _flops_fl
    echo "${COMPREPLY[*]}"
done
complete -p flops-fl
"""


def test_bash_completes_commands_options_and_choices(scripts):
    done = subprocess.run(
        ["bash", "--norc", "-c", BASH, "bash", scripts / "bash", *ASKED],
        capture_output=True, text=True, check=True, timeout=20,
    )  # fmt: skip
    *found, registered = done.stdout.splitlines()
    assert [line.split() for line in found] == list(ASKED.values())
    assert registered == "complete -o default -F _flops_fl flops-fl"
    assert done.stderr == ""


def test_bash_takes_the_script_from_the_command_itself(scripts, capsys):
    assert cli.run(["completion", "bash"]) == 0
    assert capsys.readouterr().out == (scripts / "bash").read_text()


FISH = "source $argv[1]; complete -C $argv[2]"


@pytest.mark.skipif(not shutil.which("fish"), reason="fish is not installed")
def test_fish_completes_them_too(scripts):
    for line, expected in ASKED.items():
        if "=" in line:
            continue
        done = subprocess.run(
            ["fish", "--no-config", "-c", FISH, scripts / "fish", line],
            capture_output=True, text=True, check=True, timeout=20,
        )  # fmt: skip
        found = [entry.split("\t")[0] for entry in done.stdout.splitlines()]
        wanted = [word for word in expected if line.endswith("-") or not word.startswith("--")]
        assert set(wanted) <= set(found), line
        assert done.stderr == ""


@pytest.mark.skipif(not shutil.which("zsh"), reason="zsh is not installed")
def test_zsh_takes_the_script(scripts):
    subprocess.run(["zsh", "-n", scripts / "zsh"], check=True, timeout=20)


def test_every_option_is_in_each_script(scripts):
    for shell, dashes in (("bash", "--"), ("zsh", "--"), ("fish", "-l ")):
        text = (scripts / shell).read_text()
        for entry in ENTRIES.values():
            for name, info in entry.options.model_fields.items():
                if not described(info).positional:
                    assert flag(name).replace("--", dashes, 1) in text
