"""The dependency file, and the requirements of a logged model: pip's names, installed versions."""

import re
from importlib.metadata import version

import pytest

from flops_fl.errors import RepositoryError
from flops_fl.repo.dependencies import (
    check_dependencies,
    code_folders,
    installed_requirements,
    pip_requirements,
    sources,
)

CONDA = """
channels: [conda-forge, pytorch]
dependencies:
  - python=3.11
  - pytorch::pytorch=2.13
  - cpuonly
  - numpy=1.0.0=py311_0
  - pip:
    - scikit-learn>=1.0
    - rich
"""


def test_requirements_are_pips_and_true(tmp_path):
    (tmp_path / "conda.yaml").write_text(CONDA)
    (tmp_path / "model_manager.py").write_text("import helpers.nets\n")
    (tmp_path / "helpers").mkdir()
    (tmp_path / "helpers" / "nets.py").write_text("from flops_utils import ml_repo_templates\n")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "x.csv").write_text("1")
    (tmp_path / ".venv").mkdir()
    (tmp_path / ".venv" / "x.py").write_text("")
    found, said = installed_requirements(tmp_path)
    assert re.fullmatch(r"torch==2.13\.(\*|\d+)", found[0])  # as asked, or as installed
    assert found[1:] == [
        f"{name}=={version(name)}"
        for name in ("numpy", "scikit-learn", "rich", "flops-utils", "datasets")
    ]
    assert f"numpy==1.0.0, but {version('numpy')} is installed and was used" in said
    assert [folder.name for folder in code_folders(tmp_path)] == ["helpers"]
    assert [file.name for file in sources(tmp_path)] == ["nets.py", "model_manager.py"]


def test_a_repository_without_a_file_needs_what_it_imports(tmp_path):
    (tmp_path / "model_manager.py").write_text("import numpy\n")
    assert installed_requirements(tmp_path) == ([], [])


def test_what_pip_cannot_read_costs_no_more_than_itself(tmp_path):
    entries = "[numpy=1.*, rich 1.0, {pip: ['-r more.txt', 'git+https://h/x', 'x=>1']}]"
    (tmp_path / "conda.yaml").write_text(f"dependencies: {entries}")
    found, said = installed_requirements(tmp_path)
    installed = [f"numpy=={version('numpy')}", f"rich=={version('rich')}"]
    assert found == [*installed, "-r more.txt", "git+https://h/x"]
    assert [line.partition(",")[0] for line in said] == ["numpy==1.*", "rich==1.0", "'x=>1'"]


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
