"""The user's repository is checked against the contract, isolated, and left unchanged."""

import inspect
import random
import re
import subprocess
import sys
import textwrap

import datasets
import numpy as np
import pytest

from flops_fl.data.dataset import wrap
from flops_fl.errors import DataError, RepositoryError, UsageError
from flops_fl.flower.client import ROUND, SEED, LearnerClient
from flops_fl.repo.contract import ManagedModel
from flops_fl.repo.dependencies import check_dependencies, pip_requirements
from flops_fl.repo.source import checkout, split_ref

GOOD = """
    import numpy as np

    class Mute(Exception):
        def __str__(self): raise ValueError("no words")

    class ModelManager:
        def __init__(self):
            self.p = [np.zeros(3, np.float32), np.array(1)]
        def set_model_data(self):
            from flops_utils.ml_repo_building_blocks import load_dataset
            self.data = load_dataset()
        def get_model(self): return self
        def get_model_parameters(self): return self.p
        def set_model_parameters(self, parameters): self.p = parameters
        def fit_model(self):
            self.p[0] += 1
            return 4
        def evaluate_model(self): return 0.5, 1, np.int64(2)
"""


@pytest.fixture
def repo(tmp_path):
    def write(model=GOOD, **others):
        folder = tmp_path / f"repo{len(list(tmp_path.iterdir()))}"
        folder.mkdir()
        (folder / "model_manager.py").write_text(textwrap.dedent(model))
        for name, text in others.items():
            (folder / f"{name}.py").write_text(textwrap.dedent(text))
        return folder

    return write


def replaced(old, new):
    assert old in GOOD
    return GOOD.replace(old, new)


def test_a_good_repository_fits_and_evaluates(repo):
    model = ManagedModel(repo(), lambda: "the data")
    model.attach_data()
    start = [np.full(3, 5, np.float32), np.array(7)]
    client = LearnerClient(model, "a")
    parameters, examples, metrics = client.fit(start, {})
    assert [p.tolist() for p in parameters] == [[6, 6, 6], 7]
    assert start[0].tolist() == [5, 5, 5]  # the pristine copy stays ours
    assert (examples, metrics) == (4, {})
    assert client.evaluate(start, {}) == (0.5, 2, {"accuracy": 1.0})
    assert [p.tolist() for p in client.get_parameters({})] == [[5, 5, 5], 7]


def test_nothing_is_written_into_the_users_folder(repo):
    folder = repo(GOOD, data_manager="x = 1")
    before = sorted(folder.rglob("*"))
    model = ManagedModel(folder, lambda: 1)
    model.attach_data()
    model.fit()
    assert sorted(folder.rglob("*")) == before


def test_dtypes_of_the_initial_model_are_kept(repo):
    drifting = replaced("self.p[0] += 1", "self.p = [p.astype('f8') + 0.5 for p in self.p]")
    model = ManagedModel(repo(drifting))
    model.fit()
    assert [p.dtype for p in model.parameters()] == [np.float32, np.int64]


class Lent:
    """What frameworks' own arrays look like to NumPy."""

    def __init__(self, values):
        self.values = values

    def __array__(self, dtype=None, copy=None):
        return self.values


@pytest.mark.parametrize("name", ["bfloat16", "float8_e4m3fn", "float8_e5m2"])
def test_narrow_floats_and_arrays_of_frameworks_are_taken(repo, name):
    text = replaced("np.zeros(3, np.float32)", "Lent(np.zeros(3, 'NAME'))")
    text = text.replace("self.p[0] += 1", "self.p[0] = np.float32(self.p[0]) + 1")
    text = text.replace("import numpy as np", "import numpy as np, ml_dtypes; from lent import *")
    lent = textwrap.dedent(inspect.getsource(Lent))
    model = ManagedModel(repo(text.replace("NAME", name), lent=lent))
    assert [spec.dtype for spec in model.layout.tensors] == [name, "<i8"]
    model.load([np.full(3, 2.0), np.array(1.0)])  # as a stock Flower server may send it
    model.fit()
    array, scalar = model.parameters()
    assert (array.dtype, array.tolist()) == (name, [3, 3, 3])
    assert (scalar.dtype, scalar.tolist()) == (np.int64, 1)


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("object()", "a object, expected a NumPy array"),
        ("[1, 2]", "a list, expected a NumPy array"),
        ("np.array([[1], [2, 3]], object)", "an array of dtype object, .* convert it to one array"),
        ("np.array(['a'])", "an array of dtype <U1, .* leave it out"),
        ("'a'", "a str of dtype <U1"),
        ("np.array('2020-01-01', 'M8[s]')", r"an array of dtype datetime64\[s\], .*int64"),
        ("np.zeros(1, [('a', 'f4')])", "an array of dtype .*'a'.*, expected numbers"),
        ("np.zeros(1, __import__('ml_dtypes').int4)", "an array of dtype int4, expected numbers"),
        ("Lent(None)", "a Lent that NumPy cannot convert .* on the CPU"),
    ],
)
def test_an_array_that_is_refused_is_named_with_its_dtype_and_a_remedy(repo, value, said):
    text = replaced("np.array(1)", value)
    text = text.replace("import numpy as np", "import numpy as np; from lent import *")
    lent = textwrap.dedent(inspect.getsource(Lent))
    with pytest.raises(RepositoryError, match=f"returned for item 1 {said}"):
        ManagedModel(repo(text, lent=lent))


def test_repositories_in_one_process_do_not_see_each_other(repo):
    text = replaced("import numpy as np", "import numpy as np\n    import helper")
    text = text.replace("return 4", "return helper.COUNT + helper.bump()")
    helper = "COUNT = {}\nseen = []\ndef bump():\n    seen.append(1)\n    return len(seen)\n"
    one = repo(text, helper=helper.format(10))
    other = repo(text, helper=helper.format(20))
    before = set(sys.modules), list(sys.path)
    models = [ManagedModel(folder) for folder in (one, other, one)]
    assert [model.fit() for model in models] == [11, 21, 11]
    assert [model.fit() for model in models] == [12, 22, 12]
    left = {name for name in set(sys.modules) - before[0] if "." not in name}
    assert not left & {"helper", "model_manager", "data_loading"}
    assert sys.path == before[1]


def test_each_learner_has_its_own_data(repo):
    folder = repo(replaced("return 4", "return self.data"))
    models = [ManagedModel(folder, lambda n=n: n) for n in (3, 5)]
    for model in models:
        model.attach_data()
    assert [model.fit() for model in reversed(models)] == [5, 3]


def test_the_older_name_of_the_load_function_works(repo):
    older = replaced(
        "from flops_utils.ml_repo_building_blocks import load_dataset",
        "from flops_utils.flops_learner_files_wrapper import load_ml_data as load_dataset",
    )
    model = ManagedModel(repo(older.replace("return 4", "return self.data")), lambda: 9)
    model.attach_data()
    assert model.fit() == 9


def test_a_module_of_the_users_may_bear_the_name_of_ours(repo):
    text = replaced("return 4", "return __import__('learner').COUNT")
    assert ManagedModel(repo(text, learner="COUNT = 6")).fit() == 6


def test_the_aggregator_has_no_data(repo):
    text = replaced("self.p = [np", "self.set_model_data(); self.p = [np")
    with pytest.raises(DataError, match="set_model_data"):
        ManagedModel(repo(text))


def test_an_import_error_below_the_data_is_no_missing_file(repo):
    def load():
        import a_package_that_is_not_there  # noqa: F401

    model = ManagedModel(repo(), load)
    with pytest.raises(DataError, match="a_package_that_is_not_there"):
        model.attach_data()


@pytest.mark.parametrize(
    ("model", "stage", "said"),
    [
        ("import not_installed_here", "import", "not_installed_here.*conda.yaml"),
        ("x = = 1", "import", "SyntaxError"),
        ("import sys; sys.exit(3)", "import", r"sys.exit\(3\)"),
        ("ModelManager = 3", "import", "defines no class ModelManager"),
        ("class ModelManager: pass", "import", "has no method set_model_data"),
        (replaced("self.p = [np", "raise ValueError('boom'); [np"), "__init__", "boom"),
        (replaced("return self.p", "return []"), "get_model_parameters", "an empty list"),
        (replaced("return self.p", "return None"), "get_model_parameters", "NoneType"),
        (replaced("return self.p", "return ['a']"), "get_model_parameters", "item 0"),
        (replaced("return self.p", "return [np.array(['a'])]"), "get_model_parameters", "item 0"),
    ],
)
def test_what_breaks_the_contract_is_said_in_a_sentence(repo, model, stage, said):
    with pytest.raises(RepositoryError, match=said) as caught:
        ManagedModel(repo(model))
    assert caught.value.stage == stage
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("old", "new", "call", "said"),
    [
        ("return 4", "return 0", "fit", "number of samples: an integer from 1"),
        ("return 4", "return 10**30", "fit", "returned 1000000000000000"),
        ("return 4", "raise Mute()", "fit", "Mute: a Mute that cannot be shown"),
        ("return 4", "return None", "fit", "returned None"),
        ("return 4", "return 2.5", "fit", "2.5"),
        ("return 0.5, 1, np.int64(2)", "return 0.5, 1", "evaluate", "expected .loss, accuracy"),
        ("return 0.5, 1, np.int64(2)", "return 'x', 1, 2", "evaluate", "finite number"),
        ("return 0.5, 1, np.int64(2)", "return float('nan'), 1, 2", "evaluate", "finite number"),
        ("return 4", "import sys; sys.exit()", "fit", "sys.exit"),
    ],
)
def test_what_methods_return_is_checked(repo, old, new, call, said):
    model = ManagedModel(repo(replaced(old, new)))
    with pytest.raises(RepositoryError, match=said):
        getattr(model, call)()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("self.p[0] = np.zeros(4, np.float32)", r"shape \(4,\) for array 0"),
        ("self.p = self.p[:1]", "1 arrays, 2 at the start"),
    ],
)
def test_parameters_may_not_change_their_layout(repo, change, said):
    model = ManagedModel(repo(replaced("self.p[0] += 1", change)))
    model.fit()
    with pytest.raises(RepositoryError, match=said):
        model.parameters()


def test_a_forked_child_that_fails_does_not_go_on_as_a_second_learner(repo):
    text = replaced("return 4", "return self.child()").replace(
        "def get_model(self)",
        """def child(self):
            import os
            if (child := os.fork()) == 0:
                raise ValueError("in the child")
            return 4 * os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        def get_model(self)""",
    )
    assert ManagedModel(repo(text)).fit() == 4


def test_the_traceback_is_the_users_own(repo):
    folder = repo(replaced("self.p[0] += 1", "{}['gone']"))
    with pytest.raises(RepositoryError) as caught:
        ManagedModel(folder).fit()
    assert "model_manager.py" in caught.value.traceback
    assert "KeyError: 'gone'" in caught.value.traceback
    assert "contract.py" not in caught.value.traceback


def test_of_a_missing_column_the_users_line_is_shown_and_which_there_are(repo):
    reads = replaced("self.data = load_dataset()", "self.data = load_dataset()['label']")
    data = wrap(datasets.Dataset.from_dict({"x": [1], "y": [2]}))
    model = ManagedModel(repo(reads), lambda: data)
    with pytest.raises(RepositoryError, match="have no column 'label': x, y") as caught:
        model.attach_data()
    assert re.findall(r'File ".*/(.*)", line', caught.value.traceback) == ["model_manager.py"]
    assert "During handling" not in caught.value.traceback


def test_of_a_users_function_that_a_dataset_calls_all_lines_of_theirs_are_shown(repo):
    reads = replaced("load_dataset()", "load_dataset().map(lambda row: 1 / 0)")
    data = wrap(datasets.Dataset.from_dict({"x": [1]}))
    with pytest.raises(RepositoryError) as caught:
        ManagedModel(repo(reads), lambda: data).attach_data()
    assert caught.value.traceback.count("lambda row: 1 / 0") >= 2
    assert "flops_fl" not in caught.value.traceback


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("import data_manager", "The repository has no data_manager.py, which belongs to it"),
        ("from .data_manager import get", "no package: from data_manager import get$"),
        ("from . import data_manager", "no package: import data_manager$"),
        ("import ours.part", r"No module named 'ours.part'. Mend it there: it is in the repo"),
        ("from ours import gone", "cannot import name 'gone' .* Mend it there"),
        ("import nowhere", "Install what .* conda.yaml lists .* or commit nowhere.py"),
        ("from json import gone", "Install what the repository's conda.yaml lists"),
    ],
)
def test_an_import_that_fails_has_its_own_remedy(repo, line, said):
    folder = repo(line)
    (folder / "ours").mkdir()
    (folder / "ours" / "__init__.py").write_text("")
    with pytest.raises(RepositoryError, match=said):
        ManagedModel(folder)


def test_a_parser_in_the_repository_does_not_see_what_the_runtime_was_told(repo, monkeypatch):
    told = ["flops-fl", "simulate", "--learners", "2"]
    monkeypatch.setattr(sys, "argv", told)
    parses = "import argparse, sys\nargs = argparse.ArgumentParser().parse_args()\n"
    folder = repo(parses + textwrap.dedent(replaced("return 4", "return len(sys.argv)")))
    assert ManagedModel(folder).fit() == 1
    assert sys.argv is told


def test_draws_depend_on_seed_learner_and_round_alone(repo):
    text = replaced("self.p[0] += 1", "self.p[0] += random.random() + np.random.rand()")
    text = text.replace("import numpy as np", "import random\n    import numpy as np")
    folder = repo(text)
    start = [np.zeros(3, np.float32), np.array(0)]

    def draw(learner, seed, round):
        client = LearnerClient(ManagedModel(folder), learner)
        random.random()
        return client.fit(start, {SEED: seed, ROUND: round})[0][0][0]

    assert draw("a", 1, 1) == draw("a", 1, 1)
    others = [draw("b", 1, 1), draw("a", 2, 1), draw("a", 1, 2)]
    assert len({draw("a", 1, 1), *others}) == 4


# -- where it comes from ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "url", "ref"),
    [
        ("https://h/a/b.git", "https://h/a/b.git", "HEAD"),
        ("https://h/a/b.git@main", "https://h/a/b.git", "main"),
        ("https://h/a/b@feature/x", "https://h/a/b", "feature/x"),
        ("https://me:pw@h/a/b", "https://me:pw@h/a/b", "HEAD"),
        ("https://me:pw@h/a/b@v1", "https://me:pw@h/a/b", "v1"),
        ("git@h:a/b.git", "git@h:a/b.git", "HEAD"),
        ("git@h:a/b.git@v1", "git@h:a/b.git", "v1"),
        ("file:///x/y@v1", "file:///x/y", "v1"),
        ("https://h/a/b.git@release@2", "https://h/a/b.git", "release@2"),
        ("https://me:pw@h/@scope/b@v1", "https://me:pw@h/@scope/b", "v1"),
    ],
)
def test_a_ref_stands_behind_the_first_at(source, url, ref):
    assert split_ref(source) == (url, ref)


def _git(folder, *arguments):
    identity = ["-c", "user.name=a", "-c", "user.email=a@b"]
    done = subprocess.run(
        ["git", "-C", folder, *identity, *arguments], check=True, capture_output=True, text=True
    )
    return done.stdout.strip()


@pytest.fixture
def origin(repo):
    folder = repo()
    _git(folder, "init", "-q", "-b", "main")
    commits = []
    for count in (4, 8):
        text = textwrap.dedent(replaced("return 4", f"return {count}"))
        (folder / "model_manager.py").write_text(text)
        _git(folder, "add", ".")
        _git(folder, "commit", "-qm", str(count))
        commits.append(_git(folder, "rev-parse", "HEAD"))
    _git(folder, "tag", "old", commits[0])
    return folder, commits


def test_a_url_is_cloned_and_its_commit_recorded(origin):
    folder, (old, new) = origin
    for ref, commit, count in [("", new, 8), ("@old", old, 4), (f"@{old}", old, 4)]:
        with checkout(f"file://{folder}{ref}") as repo:
            assert repo.commit == commit
            assert ManagedModel(repo.path).fit() == count
            cloned = repo.path
        assert not cloned.exists()


def test_a_folders_commit_and_changes_are_recorded(origin):
    folder, (_, new) = origin
    with (
        pytest.raises(UsageError, match=rf"@v9 is for Git URLs.*{folder}, or file://{folder}@v9"),
        checkout(f"{folder}@v9"),
    ):
        pass
    with checkout(str(folder)) as repo:
        assert repo.commit == new
    (folder / "runs" / "model").mkdir(parents=True)
    (folder / "runs" / "model" / "result.json").write_text("{}")
    with checkout(str(folder)) as repo:
        assert repo.commit == new  # the results of a run in the repository are no change of it
    (folder / "more.py").write_text("")
    with checkout(str(folder)) as repo:
        assert repo.commit == f"{new}+changes"


def test_a_source_that_cannot_be_had_is_a_usage_error(origin, tmp_path):
    folder, _ = origin
    for source in (f"file://{folder}@nowhere", f"file://{tmp_path}/none.git", "not/here"):
        with pytest.raises(UsageError), checkout(source):
            pass
    with pytest.raises(UsageError) as failed, checkout("http://me:t0ken@127.0.0.1:9/a.git@v1"):
        pass
    assert "http://127.0.0.1:9/a.git" in str(failed.value)
    assert "t0ken" not in str(failed.value)
    (folder / "model_manager.py").unlink()
    with pytest.raises(RepositoryError, match="no model_manager.py"), checkout(str(folder)):
        pass


# -- its dependencies ------------------------------------------------------------------------


def test_both_names_and_both_spellings_of_dependencies_are_read(tmp_path, caplog):
    assert pip_requirements(tmp_path) == []
    (tmp_path / "conda.yml").write_text(
        "dependencies:\n  - python=3.11\n  - scipy=1.2\n- pip:\n  - numpy==2.0\n\nname: x\n"
    )
    assert pip_requirements(tmp_path) == ["scipy==1.2.*", "numpy==2.0"]
    assert not caplog.records  # it is read more than once, and said at the start
    check_dependencies(tmp_path)
    assert "line 4" in caplog.text
    (tmp_path / "conda.yaml").write_text("dependencies: [pip, 'torch>=2', {pip: [a]}]")
    assert pip_requirements(tmp_path) == ["torch>=2", "a"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[", "line 1 is not valid YAML .*: expected a conda environment"),
        ("name: [x\n  dependencies: numpy\n", "line 2 is not valid YAML"),
        ("dependencies: [\n- pip:\n", "line 2 is not valid YAML"),
        ("a: b", "no list 'dependencies': expected a conda environment"),
        ("- x", "no list 'dependencies'"),
        ("", "no list 'dependencies'"),
        ("\udcff", "cannot be read"),
        ("dependencies: [1.5]", r"the dependency 1\.5: expected a package's name"),
        ("dependencies: [{pip: numpy}]", "the dependency .*'numpy'.*expected a package's name"),
        ("dependencies: [{npm: [a]}]", "the dependency .*'npm'"),
    ],
)
def test_a_broken_dependency_file_is_named(tmp_path, text, said):
    (tmp_path / "conda.yaml").write_bytes(text.encode(errors="surrogateescape"))
    for read in (pip_requirements, check_dependencies):
        with pytest.raises(RepositoryError, match=rf"conda\.yaml .*{said}"):
            read(tmp_path)


def test_of_a_repository_without_a_dependency_file_it_is_said_what_is_lost(tmp_path, caplog):
    check_dependencies(tmp_path)
    assert "no conda.yaml" in caplog.text
    assert "MLflow" in caplog.text
    caplog.clear()
    (tmp_path / "conda.yml").write_text("dependencies: []")
    check_dependencies(tmp_path)
    assert not caplog.records
