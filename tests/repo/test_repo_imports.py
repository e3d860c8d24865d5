"""What a repository imports, what it lists and where, and what the runtime beside it allows."""

import pytest
from packaging.specifiers import SpecifierSet

from flops_fl.errors import RepositoryError
from flops_fl.repo.environment import python_versions, read_environment
from flops_fl.repo.imports import distributions_of, packages_imported, unlisted, unused
from flops_fl.repo.runtime import against, overlap

CODE = """\
import json
import numpy as np
from typing import TYPE_CHECKING

from helpers.nets import net
from flops_utils.ml_repo_building_blocks import load_dataset

if TYPE_CHECKING:
    import hypothesis

try:
    import no_such_speedup
except ImportError:
    no_such_speedup = None


def later():
    import sklearn.linear_model
    return importlib.import_module("dateutil.parser")
"""


@pytest.fixture
def repo(tmp_path):
    (tmp_path / "model_manager.py").write_text(CODE)
    (tmp_path / "helpers").mkdir()
    (tmp_path / "helpers" / "nets.py").write_text("import model_manager, scipy, statistics\n")
    (tmp_path / "draw.py").write_text("import matplotlib\n")  # nobody imports it
    return tmp_path


def test_imports_are_found_wherever_the_model_reaches(repo):
    assert [(each.module, each.file, each.line) for each in packages_imported(repo)] == [
        ("scipy", "helpers/nets.py", 1),
        ("numpy", "model_manager.py", 2),
        ("no_such_speedup", "model_manager.py", 12),
        ("sklearn", "model_manager.py", 18),
        ("dateutil", "model_manager.py", 19),
    ]


def test_what_is_imported_is_compared_with_what_is_listed(repo):
    (repo / "conda.yaml").write_text(
        "dependencies: [python=3.11, pip, scikit-learn, joblib, torch, {pip: [rich, flops-utils]}]"
    )
    imports, entries = packages_imported(repo), read_environment(repo).entries
    assert [(each.found.module, each.distribution, each.comes_with) for each in unlisted(
        imports, entries
    )] == [
        ("scipy", "scipy", "scikit-learn"),
        ("numpy", "numpy", "scikit-learn"),
        ("dateutil", "python-dateutil", ""),
    ]  # fmt: skip
    assert [entry.text for entry in unused(imports, entries)] == ["torch", "rich"]
    assert [each.comes_with for each in unlisted(imports, [])][1] == "flops-fl"


def test_a_package_that_a_method_of_the_dataset_imports_is_used(repo):
    (repo / "conda.yaml").write_text("dependencies: [pandas, polars, {pip: [tensorflow-cpu]}]")
    entries = read_environment(repo).entries
    assert len(unused(packages_imported(repo), entries)) == 3
    code = "rows = load_dataset().to_pandas()\nsets = rows.to_tf_dataset(1)\n"
    (repo / "model_manager.py").write_text(code)
    imports = packages_imported(repo)
    assert [(each.module, each.line, each.call) for each in imports] == [
        ("pandas", 1, "to_pandas"), ("tensorflow", 2, "to_tf_dataset"),
    ]  # fmt: skip
    assert [each.name for each in unused(imports, entries)] == ["polars"]
    assert not unlisted(imports, [])  # as of imports that may fail
    (repo / "model_manager.py").write_text(f"{code}import pandas\n")
    assert [each.line for each in packages_imported(repo)] == [2, 3]


def test_modules_have_their_packages_names():
    assert distributions_of("yaml") == ("pyyaml",)
    assert distributions_of("no_such_module") == ("no-such-module",)
    assert "opencv-python-headless" in distributions_of("cv2")


def test_code_that_is_no_python_is_named_with_its_line(repo):
    (repo / "helpers" / "nets.py").write_text("x = 1\ny = (\n")
    with pytest.raises(RepositoryError, match="helpers/nets.py line 2 is not valid Python") as told:
        packages_imported(repo)
    assert told.value.line == 2


def test_each_entry_of_a_dependency_file_has_its_line(tmp_path):
    (tmp_path / "conda.yml").write_text(
        "name: x\ndependencies:\n  - python=3.10.14\n  - numpy=1.26\n  - scipy=1.11.2=py311_0\n"
        "  - defaults::pytorch>=2\n- pip:\n  - rich==14.0\n  - -r more.txt\n  - joblib=2\nname: y\n"
    )
    found = read_environment(tmp_path)
    assert [(entry.pip, entry.line, entry.name) for entry in found.entries] == [
        ("", 3, "python"),
        ("numpy==1.26.*", 4, "numpy"),
        ("scipy==1.11.2", 5, "scipy"),
        ("torch>=2", 6, "torch"),
        ("rich==14.0", 8, "rich"),
        ("-r more.txt", 9, ""),
        ("joblib=2", 10, "joblib"),
    ]
    assert [entry.is_readable for entry in found.entries] == [True] * 6 + [False]
    assert python_versions(found.python) == "==3.10.14"
    assert [(slip.line, slip.what.partition(",")[0]) for slip in found.slips] == [
        (7, "'- pip:' is not indented like its list"),
        (11, "'name:' stands here a second time"),
    ]


def test_a_package_that_stands_twice_is_named_with_both_lines(tmp_path):
    (tmp_path / "conda.yaml").write_text("dependencies:\n- NumPy\n- pip:\n  - rich\n  - numpy>1\n")
    (slip,) = read_environment(tmp_path).slips
    assert (slip.line, slip.what) == (5, "numpy>1 is the package of line 2 (NumPy) again")


@pytest.mark.parametrize(
    ("one", "other", "meet"),
    [
        ("==6.0.1", ">=6.0.2,<7", False),
        ("==3.10.*", ">=3.11", False),
        (">=3.9,<3.11", ">=3.11", False),
        (">=3.9", ">=3.11", True),
        ("<1.10", ">=1.5,<2", True),
        (">1.2", "<1.3", True),
        ("~=1.4", "==1.9.*", True),
        ("", ">=2,!=2.0", True),
        ("==2.0", "!=2.0", False),
        ("==2.13.0+cpu", "==2.13.0", True),
    ],
)
def test_two_sets_of_versions_meet_or_do_not(one, other, meet):
    assert overlap(SpecifierSet(one), SpecifierSet(other)) is meet
    assert overlap(SpecifierSet(other), SpecifierSet(one)) is meet


def test_what_the_runtime_needs_leaves_some_versions_out():
    assert str(against("python", SpecifierSet("==3.10.14"))) == "flops-fl needs >=3.11"
    assert against("pyyaml", SpecifierSet("==6.0.1")).by == "flops-fl"
    assert against("tomli", SpecifierSet("<2")).by == "flwr"
    assert against("pyyaml", SpecifierSet(">=5")) is None
    assert against("torch", SpecifierSet("==1.0")) is None
