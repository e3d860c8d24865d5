import pytest

from tests.data.serving import DataServer


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """A data server for the tests of a file."""
    started = DataServer(tmp_path_factory.mktemp("server") / "data")
    yield started
    started.stop()
