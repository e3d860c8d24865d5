import shlex

import pytest

from flops_fl import cli


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def pki_command(here, capsys):
    """Runs `flops-fl pki ...` in a fresh folder; what it printed."""

    def run(line):
        assert cli.run(["pki", *shlex.split(line)]) == 0
        return capsys.readouterr().out

    return run
