"""Runs of the examples, and what `flops-fl export` and `evaluate` print of them."""

import io
import json

from flops_fl.options.reading import parse
from flops_fl.options.use import EvaluateOptions, ExportOptions
from flops_fl.process.answer import Answer
from flops_fl.run.checkpoint import save_npz
from flops_fl.use.model import evaluate, export
from flops_fl.use.repository import built
from tests.conftest import ROOT

REPOSITORIES = ROOT / "tests" / "repositories"
THREE = ("--learners", 3, "--rounds", 3)


def simulated(run_cli, repo, out, *options):
    code, _, err = run_cli(
        "flops_fl", "simulate", repo, *options, "--no-tracking", "--output", out
    )  # fmt: skip
    assert code == 0, err
    return out


def command(name, *words):
    """What `flops-fl NAME` prints, in this process."""
    cls, act = {"export": (ExportOptions, export), "evaluate": (EvaluateOptions, evaluate)}[name]
    stdout = io.StringIO()
    act(parse(cls, name, "", [str(word) for word in words], {}), Answer(stdout))
    return stdout.getvalue()


def made(folder, repo, data):
    """A run's folder with a model that a learner has trained; quicker than a federation."""
    model = built(repo, data)
    model.fit({})
    save_npz(folder / "model-best.npz", model.parameters())
    best = {"round": 1, "loss": 0.5, "accuracy": 0.5}
    result = {"repo": {"source": str(repo), "commit": None}, "seed": 0, "best": best}
    (folder / "result.json").write_text(json.dumps(result))
    model.close()
    return folder
