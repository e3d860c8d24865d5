import shutil

import pytest

from tests.conftest import NUMPY
from tests.use.runs import THREE, simulated


@pytest.fixture(scope="session")
def run(run_cli, tmp_path_factory):
    """Three learners, three rounds of the NumPy example."""
    folder = tmp_path_factory.mktemp("model")
    repo = shutil.copytree(NUMPY, folder / "repo")  # in no work tree, whose state would be said
    return simulated(run_cli, repo, folder / "run", *THREE)
