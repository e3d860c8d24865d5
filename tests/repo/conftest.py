import textwrap

import pytest

from tests.repo.good import GOOD


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
