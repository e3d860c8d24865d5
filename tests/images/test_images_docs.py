"""Commands for images in README.md, docs/images.md and the pipeline's example run as printed."""

import json
import shlex

import pytest
import yaml

from flops_fl.cli import COMMANDS, run
from flops_fl.images import deps
from flops_fl.options.described import flag
from tests.images import tiny
from tests.images.tiny import PYTHON, commit
from tests.pages import ROOT, joined


def shown(text):
    """The commands of flops-fl in a text, as words."""
    return [
        shlex.split(line, comments=True)[1:]
        for line in joined(text)
        if line.startswith(("flops-fl image ", "flops-fl deps ")) and "inference" not in line
    ]


@pytest.mark.parametrize("page", ["README.md", "docs/images.md"])
def test_the_commands_run_as_printed(page, repo, wheels, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(deps, "_inferred", lambda *_: ([], ""))
    monkeypatch.chdir(tmp_path)
    places = {"path/to/repo": str(repo), "my.parquet": str(tmp_path / "my.parquet")}
    places["https://example.org/me/model.git@v1"] = f"{repo.as_uri()}@HEAD"
    base = tiny.base(tmp_path / "base", python=PYTHON)
    (repo / "model_manager.py").write_text("import frame\n")
    commit(repo)
    with tiny.registry() as kept:
        places["registry.example.org"] = kept.address
        commands = shown((ROOT / page).read_text())
        assert [words[0] for words in commands][-1] == "image"
        for words in commands:
            more = ["--base", str(base)] if words[0] == "image" else []
            run([*(places.get(word, word) for word in words), *more, "--json"])
            found = json.loads(capsys.readouterr().out)
            assert found["status"] == "completed"
        assert len(found["pushed"]) == 2
    assert (tmp_path / "images" / "index.json").exists()


def test_the_pipeline_calls_commands_that_there_are():
    jobs = yaml.safe_load((ROOT / "examples/images-workflow.yml").read_text())["jobs"]
    calls = [shlex.split(step.get("run", "")) for step in jobs["images"]["steps"]]
    ours = [call[1:] for call in calls if call[:1] == ["flops-fl"]]
    assert [name for name, *_ in ours] == ["check", "image"]
    for name, *words in ours:
        known = {flag(field) for field in COMMANDS[name].options_class.model_fields}
        assert {word for word in words if word.startswith("--")} <= known
