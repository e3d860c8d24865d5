"""The undisturbed run that every chaos test compares its result with."""

import pytest

from tests.chaos.federation import Federation, figures


@pytest.fixture
def undisturbed(processes, slow_repo, digits, tmp_path):
    """The figures of a run in which nothing happens."""

    def run(rounds):
        calm = type(processes)(tmp_path / "calm")
        calm.folder.mkdir()
        try:
            return figures(Federation(calm, slow_repo, digits, rounds, 0).result())
        finally:
            calm.stop()

    return run
