"""The user's repository is checked against the contract, isolated, and left unchanged."""

import inspect
import random
import re
import sys
import textwrap

import datasets
import numpy as np
import pytest

from flops_fl.data.dataset import wrap
from flops_fl.errors import DataError, RepositoryError
from flops_fl.flower.client import ROUND, SEED, LearnerClient
from flops_fl.repo.contract import ManagedModel
from tests.repo.good import GOOD, replaced


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
