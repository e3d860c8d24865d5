"""The command line as a whole: its commands, how users find them, and their errors."""

import json
import os
import subprocess
import sys
from contextlib import suppress

import pytest

from flops_fl import cli
from flops_fl.errors import UsageError
from flops_fl.options.reading import parse
from flops_fl.table import COMMANDS, GROUPS
from tests.conftest import ROOT, unstamped

PROGRAM = "sys.argv = ['flops-fl', *sys.argv[1:]]; from flops_fl.cli import main; main()"


def flops_fl(*argv, cwd=ROOT, env=None):
    """The installed command, whose first entry of sys.path is not the working folder."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **(env or {})}
    return subprocess.run(
        [sys.executable, "-P", "-c", f"import sys; {PROGRAM}", *argv],
        cwd=cwd, capture_output=True, text=True, timeout=60, check=False, env=environment,
    )  # fmt: skip


def listed(*argv):
    return cli.run(list(argv))


@pytest.mark.parametrize("asked", [[], ["--help"], ["-h"], ["help"]])
def test_every_level_lists_its_commands_with_a_line_each(asked, capsys):
    assert listed(*asked) == 0
    lines = capsys.readouterr().out.splitlines()
    for name, command in COMMANDS.items():
        (line,) = [line for line in lines if line.startswith(f"  {name} ")]
        assert line.endswith(command.line)
    for group in filter(None, GROUPS):
        assert listed(group, *asked[-1:] * (asked != ["help"])) == 0
        out = capsys.readouterr().out
        within = [name for name in COMMANDS if f"\n  {name} " in out]
        assert within == [name for name in COMMANDS if name.startswith(f"{group} ")]
        lines += out.splitlines()
    assert max(map(len, lines)) <= 80


@pytest.mark.parametrize("level", [[], ["data"], ["pki"], ["learner"], ["pki", "init"]])
def test_every_level_says_the_version(level, capsys):
    with suppress(SystemExit):
        assert listed(*level, "--version") == 0
    assert capsys.readouterr().out.startswith("flops-fl 0.")


@pytest.mark.parametrize("name", COMMANDS)
def test_help_on_a_command_begins_with_how_it_was_called(name, capsys):
    for words in (["help", *name.split()], [*name.split(), "--help"]):
        with pytest.raises(SystemExit) as ended:
            listed(*words)
        assert ended.value.code == 0
        assert " ".join(capsys.readouterr().out.split()).startswith(f"usage: flops-fl {name} ")


def test_an_option_before_its_command_is_told_from_a_misspelt_command():
    with pytest.raises(UsageError, match="--rounds: expected a command first"):
        listed("--rounds", "5", "simulate")


@pytest.mark.parametrize(("module", "prog"), [("learner", "python -m learner"), ("flops_fl", "")])
def test_it_is_called_as_it_was(module, prog, run_cli):
    code, _, err = run_cli(module, *([] if prog else ["learner"]), "r", "--nope")
    assert code == 2
    assert err.endswith(f"See {prog or 'python -m flops_fl learner'} --help\n")


def test_a_file_of_ones_own_hides_a_module_but_not_the_command(run_cli, tmp_path):
    (tmp_path / "learner.py").write_text("print('mine')")
    done = flops_fl("learner", "--help", cwd=tmp_path)
    assert (done.returncode, done.stdout[:28]) == (0, "usage: flops-fl learner REPO")
    path = {"PYTHONPATH": str(ROOT)}
    assert run_cli("learner", "--help", cwd=tmp_path, env=path)[:2] == (0, "mine\n")
    _, _, err = run_cli("aggregator", "--help", cwd=tmp_path, env=path)
    assert "learner.py hides python -m learner in this folder: flops-fl learner does the" in err
    assert cli.hidden_by(ROOT) == []


def test_what_comes_from_the_environment_is_said_without_passwords():
    env = {"FLOPS_PARTS": "2", "FLOPS_SOURCE": "hf:x", "FLOPS_TAG": "here", "FLOPS_SEED": ""}
    env |= {"FLOPS_OUT": "https://me:secret@example.org", "FLOPS_ROUNDS": "9"}
    done = flops_fl("data", "partition", "nowhere", "--parts", "1", env=env)
    said = done.stderr.splitlines()
    assert said[0].endswith("from the environment: FLOPS_TAG=here, FLOPS_OUT=https://example.org")
    assert unstamped(said[1]).startswith("error: no data source 'nowhere'")


def test_a_mistake_from_the_environment_is_named_by_its_variable():
    cls = COMMANDS["aggregator"].options_class
    with pytest.raises(UsageError) as caught:
        parse(cls, "a", "", ["r"], {"FLOPS_ROUNDS": "0", "FLOPS_LISTEN": "0.0.0.0:80"})
    assert str(caught.value).startswith("FLOPS_ROUNDS=0: should be greater than 0")
    with pytest.raises(UsageError) as caught:
        parse(cls, "a", "", ["r"], {"FLOPS_LISTEN": "0.0.0.0:80"})
    assert "(from the environment: FLOPS_LISTEN=0.0.0.0:80)" in str(caught.value)


@pytest.mark.parametrize(
    ("argv", "env"),
    [
        (["nonsense", "--json"], {}),
        (["simulate", "r", "--json", "--rounds", "0"], {}),
        (["simulate", "nowhere", "--learners", "2", "--json"], {}),
        (["evaluate", "nowhere"], {"FLOPS_JSON": "yes"}),
        (["pki", "sign", "none.csr", "--json"], {}),
    ],
)
def test_a_failure_is_a_document_too(argv, env):
    done = flops_fl(*argv, env=env)
    document = json.loads(done.stdout)
    said = unstamped(done.stderr).splitlines()[-1]
    assert document.pop("error") == said.removeprefix("error: ")
    assert document == {"status": "failed", "exit_code": 2}
    assert done.returncode == 2


def test_a_failed_runs_document_is_its_result(tmp_path):
    out = ["--output", str(tmp_path / "run"), "--no-tracking", "--json"]
    limits = ["--join-timeout", "0.1", "--listen", "127.0.0.1:0"]
    done = flops_fl("aggregator", "examples/numpy_minimal", *limits, *out)
    assert done.returncode == 4
    assert json.loads(done.stdout) == json.loads((tmp_path / "run/result.json").read_text())


def test_the_page_of_mistakes_says_what_is_said():
    done = subprocess.run(
        [sys.executable, "-m", "tests.mistakes"],
        cwd=ROOT, capture_output=True, text=True, timeout=100, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    written = (ROOT / "docs/errors.md").read_text().splitlines()
    message = "python -m tests.mistakes > docs/errors.md, after a look at what has changed"
    assert done.stdout.splitlines() == written, message
    assert done.stdout.count("| `") >= 40


def test_help_is_quick_and_imports_nothing_heavy(run_cli):
    code, out, err = run_cli("learner", "--help", env={"PYTHONPROFILEIMPORTTIME": "1"})
    assert code == 0
    assert "--aggregator" in out
    imported = {line.rpartition("|")[2].strip() for line in err.splitlines()}
    assert "pydantic" in imported
    for heavy in ("mlflow", "datasets", "torch", "flwr", "numpy", "pyarrow"):
        assert heavy not in imported


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["simulat", "r"], "no command 'simulat' (did you mean simulate?). See"),
        (["data", "partitio"], "did you mean data partition?"),
        (
            ["nonsense"],
            "expected init, check, simulate, aggregator, learner, run, evaluate",
        ),
    ],
)
def test_a_misspelt_command_is_answered_with_what_may_have_been_meant(argv, said):
    with pytest.raises(UsageError) as caught:
        cli.run(argv)
    assert said in str(caught.value)
