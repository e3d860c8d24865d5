"""What `import` finds for a repository's code, and for all other code."""

import builtins
import importlib
import statistics
import sys
import threading

import numpy as np
import pytest

from flops_fl.repo.loader import Workspace


@pytest.fixture
def repository(tmp_path):
    def write(files):
        for name, text in files.items():
            path = tmp_path / "repo" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return tmp_path / "repo"

    return write


def test_files_and_folders_that_are_no_modules_hide_no_library(repository):
    main = "import numpy, json, tests.conftest"
    data = ["numpy.txt", "json.csv", "numpy/photo.png", "tests/rows.csv"]
    path = repository({"main.py": main, **dict.fromkeys(data, "")})
    assert Workspace(path).import_module("main").numpy is np
    assert sys.modules["numpy"] is np


def test_a_folder_without_init_is_importable_unless_it_is_an_installed_one(repository):
    main = "from steps.scale import SCALE\nfrom numpy.linalg import norm"
    files = {"main.py": main, "steps/scale.py": "SCALE = 3", "numpy/linalg.py": "norm = 1"}
    module = Workspace(repository(files)).import_module("main")
    assert module.SCALE == 3
    assert module.norm is np.linalg.norm
    assert not any(name.startswith("steps") for name in sys.modules)


MAIN = """
import datasets.digits, statistics, yaml
from datasets import digits

def lazily():
    import statistics
    from datasets import more
    return statistics.MINE, datasets.digits is digits, more.__name__
"""
NAMESAKES = {
    "main.py": MAIN,
    "statistics.py": "MINE = 'statistics'",
    "yaml.py": "MINE = 'yaml'",
    "datasets/__init__.py": "from .digits import MINE\nfrom . import digits",
    "datasets/digits.py": "import datasets.more\nMINE = 'datasets'",
    "datasets/more.py": "",
}


@pytest.mark.parametrize("loaded", [True, False])
def test_a_repository_and_all_others_have_each_their_own_module_of_a_name(
    repository, monkeypatch, loaded
):
    if not loaded:  # by the runtime, before
        for name in ("yaml", "statistics"):
            monkeypatch.delitem(sys.modules, name, raising=False)
    workspace, plain, seen = Workspace(repository(NAMESAKES)), builtins.__import__, []
    main = workspace.import_module("main")
    assert (main.statistics.MINE, main.yaml.MINE) == ("statistics", "yaml")
    assert main.datasets.MINE == "datasets"
    with workspace.active():
        assert main.lazily() == ("statistics", True, "datasets.more")
        thread = threading.Thread(target=lambda: seen.append(__import__("yaml").safe_load("[1]")))
        thread.start()
        thread.join()
        assert importlib.import_module("statistics").mean([1, 3]) == 2
    assert seen == [[1]]
    assert builtins.__import__ is plain
    assert not hasattr(sys.modules["yaml"], "MINE")
    assert workspace.import_module("statistics").MINE == "statistics"


def test_what_fails_in_a_namesake_is_not_taken_for_loaded(repository):
    path = repository({"main.py": "import statistics", "statistics.py": "1 / 0"})
    workspace = Workspace(path)
    for _ in range(2):
        with pytest.raises(ZeroDivisionError):
            workspace.import_module("main")
    (path / "statistics.py").write_text("import statistics.none_such")
    with pytest.raises(ModuleNotFoundError, match="none_such"):
        workspace.import_module("main")
    assert sys.modules["statistics"] is statistics


def test_a_venv_within_the_repository_is_not_the_repositorys(repository):
    workspace = Workspace(repository({"main.py": ""}))
    assert workspace.owns(str(workspace.folder / "main.py"))
    assert not workspace.owns(str(workspace.folder / ".venv/lib/site-packages/x.py"))
