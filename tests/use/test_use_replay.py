"""What a learner did in a past round, good or bad, happens again."""

import json
import shutil
import subprocess
import sys

import pytest

from flops_fl.run.checkpoint import load_round
from flops_fl.types import parameters_sha256
from flops_fl.use.model import read_run, result_of
from tests.conftest import EXAMPLES, NUMPY, ROOT
from tests.trees import Tree

SAMPLING = '''
import numpy as np


class ModelManager:
    """A mean of sampled rows; some draws hold a row that the code cannot take."""

    def __init__(self):
        self.mean = np.zeros(3)

    def set_model_data(self):
        self.rows = np.random.rand(200, 3)

    def get_model(self):
        return self

    def get_model_parameters(self):
        return [self.mean]

    def set_model_parameters(self, parameters):
        (self.mean,) = parameters

    def fit_model(self):
        drawn = np.random.choice(200, 20)
        if 13 in drawn:
            raise ValueError(f"row 13 is bad, drawn {sorted(drawn)[0]} first")
        self.mean = self.mean + 0.1 * (self.rows[drawn].mean(axis=0) - self.mean)
        return 200

    def evaluate_model(self):
        loss = float(((self.rows - self.mean) ** 2).mean())
        return loss, 1 / (1 + loss), 200
'''


@pytest.fixture(scope="module")
def sampled(tmp_path_factory, run_cli):
    """The folder of a run in which learners fail in some rounds."""
    folder = tmp_path_factory.mktemp("replay")
    repo = folder / "repo"
    repo.mkdir()
    (repo / "model_manager.py").write_text(SAMPLING)
    (repo / "conda.yaml").write_text("dependencies: [pip: [numpy]]\n")
    code, _, err = run_cli(
        "flops_fl", "simulate", repo, "--learners", 2, "--rounds", 30, "--data", "none",
        "--no-tracking", "--keep-rounds", "all", "--min-evaluate-clients", 1,
        "--max-failures", 30, "--max-update-norm", 1e6, "--grace", 60,
        "--output", folder / "run",
    )  # fmt: skip
    assert code == 0, err
    return folder / "run"


def replay(run_cli, run, round, learner, *more):
    return run_cli("flops_fl", "replay", run, "--round", round, "--learner", learner, *more)


def rounds(run):
    return json.loads((run / "result.json").read_text())["rounds"]


def failed(run):
    """A round in which one learner has failed, and the failure."""
    return next((r["round"], r["failures"][0]) for r in rounds(run) if len(r["failures"]) == 1)


def test_a_good_fit_gives_the_same_bytes(run_cli, sampled):
    number, failure = failed(sampled)
    alone = {"learner-0": "learner-1", "learner-1": "learner-0"}[failure["learner"]]
    code, out, err = replay(run_cli, sampled, number, alone, "--json")
    assert code == 0, err
    # It was the only update of its round, so the mean of the updates is this one.
    made = parameters_sha256(load_round(sampled, number).parameters)
    assert json.loads(out)["update_sha256"] == made
    assert json.loads(out)["recorded"] is None


def test_a_failure_fails_again_with_the_same_traceback(run_cli, sampled):
    number, failure = failed(sampled)
    code, _, err = replay(run_cli, sampled, number, failure["learner"])
    assert code == 3
    assert failure["reason"] in err
    assert 'raise ValueError(f"row 13 is bad' in err


def test_the_debugger_opens_where_it_fails(sampled):
    number, failure = failed(sampled)
    done = subprocess.run(
        [sys.executable, "-m", "flops_fl", "replay", sampled, "--round", str(number),
         "--learner", failure["learner"], "--pdb"],
        cwd=ROOT, input="p 13 in drawn\nq\n", capture_output=True, text=True, timeout=60,
        check=False,
    )  # fmt: skip
    assert done.returncode == 3
    assert "(Pdb) True" in done.stderr


@pytest.mark.slow
def test_an_evaluation_gives_the_same_loss(run_cli, sampled):
    record = rounds(sampled)[-1]
    found = []
    for learner in ("learner-0", "learner-1"):
        code, out, err = replay(
            run_cli, sampled, record["round"], learner, "--stage", "evaluate", "--json"
        )
        assert code == 0, err
        found.append(json.loads(out)["loss"])
    assert sum(found) / 2 == pytest.approx(record["loss"], rel=1e-12)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--round", 31], "--round 31: "),
        (["--round", 3, "--learner", "learner-7"], "had no part in round 3: expected one of learn"),
    ],
)
def test_what_never_was_is_named(run_cli, sampled, words, said):
    learner = [] if "--learner" in words else ["--learner", "learner-0"]
    code, _, err = run_cli("flops_fl", "replay", sampled, *learner, *words)
    assert code == 2
    assert said in err
    assert err.count("\n") == 1, err


def test_a_repository_that_has_changed_is_named(run_cli, sampled, tmp_path):
    (tmp_path / "model_manager.py").write_text(SAMPLING.replace("zeros(3)", "zeros(4)"))
    code, _, err = replay(run_cli, sampled, 3, "learner-0", "--repo", tmp_path)
    assert code == 2
    assert "does not fit the repository (tensor 0 is float64[3], expected float64[4])" in err


@pytest.mark.slow
def test_a_round_that_is_not_kept_says_which_are(run_cli, sampled, tmp_path):
    code, _, err = run_cli(
        "flops_fl", "simulate", sampled.parent / "repo", "--learners", 2, "--rounds", 6, "--data",
        "none", "--no-tracking", "--output", tmp_path / "run",
    )  # fmt: skip
    assert code == 0, err
    code, _, err = replay(run_cli, tmp_path / "run", 2, "learner-0")
    assert code == 2
    assert "its model is not kept: expected one of 5, 6 for --stage fit, which begins from" in err


@pytest.mark.parametrize(("tags", "asked"), [([], 1), (["--data-tags", "b"], 0)])
def test_other_data_may_lack_the_learners_tags(run_cli, run, digits, tmp_path, tags, asked):
    (file,) = (digits / "part-1").glob("*.parquet")
    (tmp_path / "b.1.parquet").symlink_to(file)
    code, _, err = replay(run_cli, run, 3, "learner-0", "--data", tmp_path, *tags)
    assert code == 0, err
    assert err.count("these are not the data that learner-0 had") == 1
    assert err.count("Give its --data-tags, too") == asked


PROXIMAL = ["--strategy", "FedProx", "--strategy-option", "proximal_mu=0.1"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("example", "folder", "options"),
    [
        ("numpy_fedprox", "digits", PROXIMAL),
        ("mnist_sklearn", "digits_28", []),
        pytest.param("digits_pytorch", "digits", [], marks=pytest.mark.torch),
    ],
)
def test_real_learners_fits_are_replayed_from_their_own_data(
    processes, run_cli, request, example, folder, options, tmp_path
):
    data = request.getfixturevalue(folder) / "part-0"
    aggregator = processes.aggregator(
        EXAMPLES / example, "--rounds", 2, "--keep-rounds", "all", *options
    )
    learner = processes.learner(EXAMPLES / example, data, "edge-1")
    processes.result(aggregator)
    processes.finish(learner)
    code, out, err = replay(run_cli, tmp_path / "run", 2, "edge-1", "--json", "--data", data)
    assert code == 0, err
    made = parameters_sha256(load_round(tmp_path / "run", 2).parameters)
    assert json.loads(out)["update_sha256"] == made


@pytest.mark.slow
def test_a_fit_in_a_cluster_is_replayed_from_the_clusters_folder(
    processes, run_cli, quarters, tmp_path
):
    tree = Tree(processes, quarters, NUMPY)
    actors = [
        tree.root(1, "--rounds", 2),
        tree.cluster("c0", 1, "--rounds", 2, "--keep-rounds", "all", "--no-tracking"),
        tree.learners(["l0"], above="c0"),
    ]
    for each in actors:
        processes.finish(each)
    told = ["--data", quarters, "--data-tags", "l0"]
    code, out, err = replay(run_cli, tmp_path / "c0", 4, "l0", "--json", *told)
    assert code == 0, err
    made = parameters_sha256(load_round(tmp_path / "c0", 4).parameters)
    assert json.loads(out)["update_sha256"] == made  # of its only learner
    for run, learner, more, said in (
        ("c0", "l0", [], "began from the root's model"),
        ("c0", "l0", ["--stage", "evaluate"], "began from the root's model"),
        ("root", "c0", [], "clusters (c0) train by their learners"),
        ("root", "l0", [], "clusters (c0) train by their learners"),
    ):
        code, _, err = replay(run_cli, tmp_path / run, 1, learner, *told, *more)
        assert code == 2
        assert said in err


def test_a_killed_runs_rounds_are_those_of_its_checkpoints(run_cli, sampled, tmp_path):
    shutil.copytree(sampled, tmp_path / "run")
    ended = json.loads((tmp_path / "run" / "result.json").read_text())
    at_start = {**ended, "status": "running", "rounds": [], "best": None, "initial": None}
    (tmp_path / "run" / "result.json").write_text(json.dumps(at_start))
    (tmp_path / "run" / "model-last.npz").unlink()
    assert result_of(tmp_path / "run")["rounds"] == ended["rounds"]
    last = read_run(tmp_path / "run", best=False)
    assert parameters_sha256(last.parameters) == ended["model_sha256"]
    assert last.round == 30
    assert read_run(tmp_path / "run", best=True).round == ended["best"]["round"]


def test_an_untrained_model_is_called_so(sampled, tmp_path, caplog):
    shutil.copytree(sampled / "checkpoints", tmp_path / "checkpoints")
    for file in (tmp_path / "checkpoints").iterdir():
        if not file.name.startswith("000000"):
            file.unlink()
    (tmp_path / "result.json").write_text(json.dumps({"status": "running", "rounds": []}))
    assert read_run(tmp_path, best=False).round == 0
    assert "round 0: the initial model, since no round is done" in caplog.text
