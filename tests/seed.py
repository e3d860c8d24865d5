"""The files that the contract's page prints, word for word."""

import re

from tests.pages import ROOT

PAGE = ROOT.parent / "shared" / "seed" / "ml-git-repositories.md"
"""It lies beside a checkout, and is no part of it."""


def seed_repository(folder):
    """Write the page's repository into a new folder; returns the folder."""
    folder.mkdir()
    printed = re.findall(
        r'details "\*\*([\w.]+)\*\*">\}\}\n```(\w+)\n(.*?)\n\s*```', PAGE.read_text(), re.DOTALL
    )
    for name, _, content in printed:
        (folder / name).write_text(content)
    names = {path.name for path in folder.iterdir()}
    assert names == {"conda.yml", "data_manager.py", "model_manager.py"}
    return folder
