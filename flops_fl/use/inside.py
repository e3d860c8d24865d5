"""Code that runs in a program of `flops-fl run` before the program's first line.

It lets `load_dataset()` give the learner's data. Python imports it at its start, by a
``sitecustomize`` that `flops-fl run` has put on its path.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Mapping
from importlib.machinery import PathFinder
from typing import Any

from flops_fl.errors import FlopsError
from flops_fl.repo.loader import data_modules


def serve(told: Mapping[str, Any], learner: str) -> None:
    """Let `load_dataset()` give the learner's data.

    Args:
        told: What `DataOptions.told` says.
    """

    def load() -> Any:
        from flops_fl.data.local import DataPlace, place_of
        from flops_fl.options.data import DataOptions
        from flops_fl.options.reading import build
        from flops_fl.process.lines import be_heard

        be_heard()
        try:
            options = build(DataOptions, told)
            return DataPlace(place_of(options), options.data_tags, learner).load()
        except FlopsError as error:
            sys.stderr.write(f"error: {error}\n")
            raise SystemExit(error.exit_code) from None

    sys.modules.update(data_modules(load))


def run_hidden(folder: str) -> None:
    """Run the user's own ``sitecustomize``, which the one in `folder` hides, if there is one."""
    path = [entry for entry in sys.path if entry != folder]
    spec = PathFinder.find_spec("sitecustomize", path)
    if spec is not None and spec.loader is not None:
        spec.loader.exec_module(importlib.util.module_from_spec(spec))
