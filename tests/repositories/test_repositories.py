"""Repositories as people write them, trained by real processes and by `simulate`: one model."""

import importlib.util
import json
import os
import random
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.conftest import ROOT, wait_until

HERE = ROOT / "tests" / "repositories"
IDS = ["learner-0", "learner-1"]  # those of a simulation


@dataclass(frozen=True, kw_only=True)
class Kind:
    """A repository, what two rounds of it reach (0.9 of what was seen), and what it needs."""

    folder: str
    reaches: float
    needs: tuple[str, ...] = ()
    strategy: str = "FedAvg"
    env: dict[str, str] = field(default_factory=dict)
    data: str = "digits"
    writes: tuple[str, ...] = ()
    """Files that each learner leaves."""
    slow: bool = False


def keras(backend, reaches):
    env = {"KERAS_BACKEND": backend}
    return Kind(folder="keras_digits", reaches=reaches, needs=("keras", backend), env=env)


KINDS = {
    "forking": Kind(folder="forking", reaches=0.8, writes=("pool.txt",)),
    "package and files": Kind(
        folder="package_files", reaches=0.85, needs=("yaml",), writes=("logs/fits.txt",), slow=True
    ),
    "prints and bars": Kind(folder="printing", reaches=0.8, slow=True),
    "bfloat16": Kind(folder="bfloat16", reaches=0.8, needs=("ml_dtypes",)),
    "text": Kind(folder="text_sklearn", reaches=0.8, needs=("sklearn",), data="texts"),
    "DataLoader workers": Kind(folder="workers_torch", reaches=0.8, needs=("torch",)),
    "LoRA": Kind(folder="lora_torch", reaches=0.65, needs=("torch",)),
    "keras on torch": keras("torch", 0.75),
    "keras on jax": keras("jax", 0.75),
    "keras on tensorflow": keras("tensorflow", 0.75),
    "XGBoost": Kind(
        folder="xgboost_digits", reaches=0.87, needs=("xgboost",), strategy="FedXgbBagging"
    ),
    "LightGBM": Kind(
        folder="lightgbm_digits", reaches=0.9, needs=("lightgbm",), strategy="boosting:Boosting"
    ),
    "arrays that grow": Kind(
        folder="growing_numpy", reaches=0.8, strategy="collecting:Collecting", slow=True
    ),
}
HEAVY = {"torch", "keras", "xgboost", "lightgbm", "sklearn", "ml_dtypes"}


def _marks(kind):
    marks = [pytest.mark.torch] if "torch" in kind.needs else []
    return [*marks, pytest.mark.slow] if kind.slow or HEAVY & {*kind.needs} else marks


@pytest.fixture(scope="module")
def halves(tmp_path_factory):
    """Digits, and texts, in two parts, cut as `simulate` cuts them: the source, and the folder."""
    from flops_fl.data.command import partition_command

    folder = tmp_path_factory.mktemp("halves")
    sources = {"digits": "digits", "texts": str(folder / "texts.parquet")}
    _write_texts(folder / "texts.parquet")
    for name, source in sources.items():
        partition_command(source, len(IDS), name, folder / name)
    return {name: (source, folder / name) for name, source in sources.items()}


def _write_texts(path):
    """Sentences on three topics, whose words are mostly the same."""
    words, generator = [f"word{number}" for number in range(200)], random.Random(1)
    labels = [generator.randrange(3) for _ in range(600)]
    texts = [
        " ".join(generator.choices(words, k=15) + generator.choices(words[label * 9 :][:9], k=5))
        for label in labels
    ]
    pq.write_table(pa.table({"text": texts, "label": labels}), path)


@pytest.mark.timeout(300)  # frameworks are imported five times
@pytest.mark.parametrize(
    "kind", [pytest.param(kind, marks=_marks(kind), id=name) for name, kind in KINDS.items()]
)
def test_a_repository_trains_alike_in_both_hostings(
    kind, processes, run_cli, halves, tmp_path, monkeypatch
):
    for package in kind.needs:
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"{package} is not installed")
    for name, value in kind.env.items():
        monkeypatch.setenv(name, value)
    repo, (source, parts) = HERE / kind.folder, halves[kind.data]
    before = sorted(repo.rglob("*"))
    told = ["--rounds", 2, "--strategy", kind.strategy]
    aggregator = processes.aggregator(repo, *told, "--min-clients", len(IDS))
    learners = [
        processes.learner(repo, parts / f"part-{index}", learner, "--log-folder", tmp_path / "real")
        for index, learner in enumerate(IDS)
    ]
    real = processes.result(aggregator)
    for learner in learners:
        processes.finish(learner)
        assert "Traceback" not in processes.stderr(learner)
    code, out, err = run_cli(
        "flops_fl", "simulate", repo, *told, "--learners", len(IDS), "--data", source,
        "--output", tmp_path / "simulated", "--no-tracking", "--json",
    )  # fmt: skip
    assert code == 0, err
    for result in (real, json.loads(out)):
        assert not any(record["failures"] for record in result["rounds"]), result
        assert result["rounds"][-1]["accuracy"] >= kind.reaches
    assert real["model_sha256"] == json.loads(out)["model_sha256"]
    assert sorted(repo.rglob("*")) == before
    for folder in (tmp_path / "real", tmp_path / "simulated" / "learners"):
        written = {str(p.relative_to(folder)) for p in folder.glob("*/**/*") if p.is_file()}
        assert written == {f"{learner}/{name}" for learner in IDS for name in kind.writes}


@pytest.mark.slow
def test_a_pool_that_nobody_shuts_down_ends_with_its_learner(run_cli, tmp_path):
    options = ["--learners", 2, "--rounds", 1, "--data", "none", "--output", tmp_path]
    code, _, err = run_cli(
        "flops_fl", "simulate", HERE / "forking", *options, "--no-tracking", "--processes", 1
    )
    assert code == 0, err
    for name in IDS:
        process = Path("/proc", (tmp_path / "learners" / name / "pool.txt").read_text())
        wait_until(lambda process=process: not process.exists(), 10)


@pytest.mark.slow
def test_one_may_stand_in_the_repository_and_name_things_from_there(run_cli, tmp_path):
    repo = tmp_path / "repo"
    shutil.copytree(HERE / "package_files", repo)
    for name in ("datasets", "mlflow", "pandas"):
        (repo / f"{name}.py").write_text("raise ImportError('not what the runtime wants')")
    code, _, err = run_cli(
        "flops_fl", "simulate", ".", "--learners", 2, "--rounds", 2, "--output", "out",
        "--tracking-uri", "sqlite:///tracks.db", cwd=repo, env={"PYTHONPATH": ROOT},
    )  # fmt: skip
    assert code == 0, err
    assert "warning" not in err.lower()
    result = json.loads((repo / "out" / "result.json").read_text())
    assert result["mlflow"]["experiment_id"]
    assert (repo / "tracks.db").is_file()
    assert (repo / "out" / "learners" / "learner-1" / "logs" / "fits.txt").is_file()


BUILT_ANEW = """
import sys
from functools import partial
from pathlib import Path

from flops_fl.core.seeding import seed_build
from flops_fl.data.folder import load_folder
from flops_fl.flower.client import ROUND, SEED, LearnerClient
from flops_fl.repo.contract import ManagedModel
from flops_fl.types import parameters_sha256

def build():
    load = partial(load_folder, Path(sys.argv[2]), [])
    model = ManagedModel(Path(sys.argv[1]), load, partial(seed_build, 0))
    model.attach_data()
    return LearnerClient(model, "a")

seasoned = build()
middle = seasoned.fit(seasoned.model.parameters(), {SEED: 1, ROUND: 1})[0]
ends = [client.fit(middle, {SEED: 1, ROUND: 2})[0] for client in (seasoned, build())]
assert parameters_sha256(ends[0]) == parameters_sha256(ends[1])
"""


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["jax", "tensorflow"])
def test_dropout_of_a_learner_that_was_built_anew_is_that_of_one_that_was_not(backend, halves):
    for package in ("keras", backend):
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"{package} is not installed")
    run = [sys.executable, "-c", BUILT_ANEW, HERE / "keras_digits", halves["digits"][1] / "part-0"]
    env = {**os.environ, "KERAS_BACKEND": backend}
    subprocess.run(run, cwd=ROOT, env=env, stdout=subprocess.DEVNULL, check=True)
