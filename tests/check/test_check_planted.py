"""`flops-fl check` names a planted mistake with its place and a remedy, and nothing else."""

import json

import pytest

from flops_fl.check.code import Code, check_code
from flops_fl.check.command import check_repository
from flops_fl.check.listing import check_listing
from flops_fl.check.report import Order
from flops_fl.errors import RepositoryError
from flops_fl.images.needs import needs_of
from flops_fl.images.proposal import propose
from flops_fl.repo.dependencies import check_dependencies
from tests.conftest import EXAMPLES, NUMPY

MODEL, DATA, CONDA = "model_manager.py", "data_manager.py", "conda.yaml"
TAKE = "self.weights, self.bias = parameters"
GIVE = "return [self.weights, self.bias]"
BUILD = "self.bias = np.zeros(CLASSES, np.float32)"
FIT = "images, labels = self.train"
SCORE = "return float(loss), float(accuracy), len(labels)"
NOISY = """
        self.rng = np.random.default_rng(1)
        self.fit_model = self.noisy

    def noisy(self):
        self.bias += self.rng.random(10, np.float32)
        return 1
"""
LISTED = "  - numpy>=1.26\n"

# Rule; file; a text in its line after the edit; then the edit: what is replaced, by what.
STATIC = [
    ("syntax", MODEL, "def get_model(self)", "def get_model(self):", "def get_model(self)"),
    ("no-class", MODEL, '"""Softmax', "class ModelManager(", "class Manager("),
    ("no-method", MODEL, "class ModelManager", "def evaluate_model", "def evaluate"),
    ("signature", MODEL, "def set_model_parameters", "(self, parameters)", "(self)"),
    ("signature", MODEL, "def fit_model", "def fit_model(self)", "def fit_model(self, epochs)"),
    ("signature", MODEL, "async def", "    def fit_model", "    async def fit_model"),
    ("return", MODEL, "def evaluate_model", SCORE, "return float(loss), float(accuracy)"),
    ("return", MODEL, "def fit_model", "return len(images)", "len(images)"),
    ("no-file", MODEL, "from data_manager", None, None),
    (
        "import-not-listed",
        MODEL,
        "import networkx",
        "import numpy",
        "import networkx\nimport numpy",
    ),
    ("never-used", CONDA, "pandas", LISTED, LISTED + "  - pandas\n"),
    ("pin-impossible", CONDA, "numpy=1.20", "numpy>=1.26", "numpy=1.20"),
    ("pin-dropped", CONDA, "python", "python>=3.11", "python=3.10.14"),
    ("conda-slip", CONDA, "- pip:", LISTED, "- pip:\n  - numpy>=1.26\n"),
    ("conda-slip", CONDA, "numpy<3", LISTED, LISTED + "  - numpy<3\n"),
    ("conda-file", CONDA, "numpy", LISTED, "  numpy: [\n"),
    ("requirement", CONDA, "numpy=1.26", LISTED, "  - pip:\n      - numpy=1.26\n"),
]
BUILT = [
    ("fails-import", MODEL, "sys.exit", "\nPIXELS", "\nimport sys\nsys.exit(3)\nPIXELS"),
    ("fails-init", MODEL, "1 / 0", BUILD, BUILD + "\n        1 / 0"),
    ("fails-init", DATA, "load_dataset()", BUILD, BUILD + "\n        DataManager()"),
    ("fails-get-model-parameters", MODEL, "def get_model_p", GIVE, "return [self.weights, None]"),
    ("fails-get-model-parameters", MODEL, "def get_model_p", GIVE, 'return [np.array(["a"])]'),
    ("round-trip", MODEL, "def set_model_p", TAKE, "self.weights = parameters[0]"),
    ("round-trip", MODEL, "def set_model_p", TAKE, "pass"),
    ("round-trip", MODEL, "def set_model_p", TAKE, "self.weights = parameters[0].astype('f2')\n"
     "        self.bias = parameters[1]"),
    ("no-numbers", MODEL, "def get_model_p", BUILD,
     "import pickle\n        self.bias = np.frombuffer(pickle.dumps(self.weights), np.uint8)"),
    ("initial-values", MODEL, "def get_model_p", BUILD, "self.bias = np.full(10, np.nan)"),
    ("unseeded-build", MODEL, "def __init__", BUILD,
     "self.bias = np.random.default_rng().random(10)"),
    ("shared-state", MODEL, "def __init__", TAKE, "self.weights[:], self.bias[:] = parameters"),
    ("layout-by-seed", MODEL, "def __init__", BUILD, "self.bias = np.zeros(np.random.randint(99))"),
    ("exits", MODEL, "_exit", BUILD, "import os\n        os._exit(0)"),
    ("crashes", MODEL, "string_at", BUILD, "import ctypes\n        ctypes.string_at(0)"),
    ("hangs", MODEL, "while True", BUILD, "while True: pass"),
]  # fmt: skip
TRAINED = [
    ("fails-fit-model", MODEL, "None + 1", FIT, FIT + "\n        None + 1"),
    ("fails-fit-model", MODEL, "def fit_model", "return len(images)", "return len(images) / 2"),
    ("fails-get-model-parameters", MODEL, "def get_model_p", FIT,
     FIT + "\n        self.bias = np.zeros(9)\n        return 1"),
    ("fails-fit-model", MODEL, "def fit_model", "return len(images)",
     "self.bias = self.bias * np.nan\n        return len(images)"),
    ("trains-nothing", MODEL, "def fit_model", FIT, FIT + "\n        return len(images)"),
    ("dtype-changes", MODEL, "def get_model_p", "return len(images)",
     "self.bias = self.bias.astype(float)\n        return len(images)"),
    ("accuracy-range", MODEL, "def evaluate_model", "float(accuracy)", "float(accuracy) * 90"),
    ("bad-evaluation", MODEL, "def evaluate_model", "float(accuracy)", "float(accuracy) * 200"),
    ("count", MODEL, "def fit_model", "return len(images)", "return len(images) * EPOCHS"),
    ("evaluation-trains", MODEL, "def evaluate_model", SCORE, "self.bias += 1\n        " + SCORE),
    ("unseeded", MODEL, "default_rng()", "np.random.perm", "np.random.default_rng().perm"),
    ("lasting-state", MODEL, "self.rng = ", BUILD, BUILD + NOISY),
]  # fmt: skip


OPTIMIZER = "optimizer = torch.optim.Adam(self.model.parameters(), lr=2e-3)"
CRITERION = "self.loss = nn.CrossEntropyLoss()"
TORCH = [
    ("lasting-state", MODEL, "self.optimizer = ", CRITERION,
     f"{CRITERION}\n        self.{OPTIMIZER}",
     f"        {OPTIMIZER}\n", "        optimizer = self.optimizer\n"),
    ("state-outside", MODEL, "def get_model_parameters",
     "self.model.state_dict().values()", "self.model.parameters()",
     "names = self.model.state_dict().keys()", "names = dict(self.model.named_parameters()).keys()",
     "load_state_dict(state)", "load_state_dict(state, strict=False)"),
]  # fmt: skip


@pytest.fixture
def plant(tmp_path):
    """A function that copies an example with one edit, and gives the copy."""

    def plant(old, new, example=NUMPY):
        repo = tmp_path / "repo"
        repo.mkdir()
        for name in (MODEL, DATA, CONDA):
            text = (example / name).read_text()
            if old is None and name == DATA:
                continue
            if old and old in text and not (name == DATA and "def" in old):
                text, old = text.replace(old, new, 1), ""
            (repo / name).write_text(text)
        assert not old, "the edit has found no place"
        return repo

    return plant


def checked(repo, tmp_path, data=None, limit=60):
    kept = tmp_path / "kept"
    kept.mkdir(exist_ok=True)
    return check_repository(
        Order(
            folder=str(repo), kept=str(kept), kind="built", limit=limit, learner="a",
            data={"data": str(data)} if data else None,
        )
    ).findings  # fmt: skip


def assert_only(found, repo, rule, file, line):
    assert [each.rule for each in found] == [rule], found
    (finding,) = found
    assert finding.file == file
    lines = (repo / file).read_text().splitlines()
    assert line in lines[finding.line - 1], finding
    assert finding.remedy


@pytest.mark.parametrize(("rule", "file", "line", "old", "new"), STATIC)
def test_what_the_source_shows(plant, tmp_path, rule, file, line, old, new):
    repo = plant(old, new)
    assert_only([*check_code(code := Code(repo)), *check_listing(code)], repo, rule, file, line)


@pytest.mark.parametrize(
    ("name", "remedy"),
    [
        ("environment.yml", "environment.yml is not read: rename it to conda.yaml"),
        ("requirements.txt", "requirements.txt is not read: list its packages in conda.yaml"),
    ],
)
def test_a_dependency_file_of_another_name_is_named(plant, name, remedy, caplog):
    repo = plant("", "")
    (repo / "conda.yaml").rename(repo / name)
    (found,) = check_listing(Code(repo))
    assert (found.rule, found.file, found.remedy) == ("conda-file", name, remedy)
    check_dependencies(repo)  # at the start of a training
    assert f"({remedy})" in caplog.text
    with pytest.raises(RepositoryError, match=f"what its images need: {remedy}"):
        needs_of(repo, "3.12")
    assert propose(repo, "x", "3.12").notes == [remedy]


@pytest.mark.parametrize(
    ("rule", "file", "line", "old", "new"),
    [*BUILT[:4], *(pytest.param(*each, marks=pytest.mark.slow) for each in BUILT[4:])],
)
def test_what_shows_when_the_model_is_built(plant, tmp_path, rule, file, line, old, new):
    repo = plant(old, new)
    if rule == "shared-state":
        text = (repo / MODEL).read_text()
        lines = [row for row in text.splitlines(keepends=True) if "= np.zeros(" in row]
        kept = "".join(row for row in text.splitlines(keepends=True) if row not in lines)
        shared = "".join(row[4:].replace("self.", "") for row in lines)
        kept = kept.replace("def __init__(self):\n", "def __init__(self):\n        pass\n")
        head = "class ModelManager(ModelManagerTemplate):\n"
        (repo / MODEL).write_text(kept.replace(head, head + shared))
    limit = 20 if rule == "hangs" else 60
    assert_only(checked(repo, tmp_path, limit=limit), repo, rule, file, line)


@pytest.mark.slow
@pytest.mark.parametrize(("rule", "file", "line", "old", "new"), TRAINED)
def test_what_shows_in_a_fit(plant, tmp_path, digits, rule, file, line, old, new):
    repo = plant(old, new)
    found = checked(repo, tmp_path, data=str(digits / "part-0"))
    assert_only(found, repo, rule, file, line)


@pytest.mark.slow
@pytest.mark.torch
@pytest.mark.parametrize(("rule", "file", "line", "edits"), [(*row[:3], row[3:]) for row in TORCH])
def test_what_shows_in_a_fit_of_torch(plant, tmp_path, digits, rule, file, line, edits):
    repo = plant(*edits[:2], EXAMPLES / "digits_pytorch")
    text = (repo / file).read_text()
    for old, new in zip(edits[2::2], edits[3::2], strict=True):
        assert old in text
        text = text.replace(old, new)
    (repo / file).write_text(text)
    found = checked(repo, tmp_path, data=str(digits / "part-0"))
    assert_only(found, repo, rule, file, line)


FOREST = """
import pickle
class ModelManager:
    def __init__(self): self.trees = [1]
    def set_model_data(self): pass
    def get_model(self): return self.trees
    def get_model_parameters(self): return [pickle.dumps(self.trees)]
    def set_model_parameters(self, parameters): self.trees = pickle.loads(parameters[0])
    def fit_model(self): self.trees.append(2); return 5
    def evaluate_model(self): return 0.5, 0.5, 5
"""


@pytest.mark.slow
def test_a_pickle_is_named_and_a_repository_may_bring_its_data(tmp_path, run_cli):
    (tmp_path / MODEL).write_text(FOREST)
    (tmp_path / CONDA).write_text("dependencies: [python=3.11]")
    code, out, err = run_cli("flops_fl", "check", tmp_path, "--data", "none", "--json")
    assert code == 0, err
    found = json.loads(out)
    assert [each["rule"] for each in found["findings"]] == ["pickle"]
    assert found["facts"]["samples"] == 5
    assert "rows" not in found["facts"]
