"""The requirements of a logged model: pip's names and the installed versions."""

from importlib.metadata import version

from flops_fl.repo.dependencies import code_folders, installed_requirements, sources

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
    assert found[0].startswith("torch==")  # as asked, or as installed
    assert found[1:] == [
        f"numpy=={version('numpy')}",
        "scikit-learn>=1.0",
        f"rich=={version('rich')}",
        f"flops-utils=={version('flops-utils')}",
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
