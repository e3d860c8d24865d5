"""Import a repository's modules, flat, without a trace and without meeting any other's.

User code says ``from data_manager import DataManager``: names from the repository's root.
A `Workspace` is one private set of such modules. While it is active its folder leads
`sys.path` and its modules are in `sys.modules`; afterwards all is as before. So several
repositories, or several learners of one, live in one process without seeing each other.

`flops_utils` asks a top-level module ``data_loading`` for the learner's data; each
workspace has its own, a module object: no file is written into the user's folder.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import takewhile
from pathlib import Path
from types import ModuleType
from typing import Any

from flops_fl.errors import DataError

LoadData = Callable[[], Any]
"""Gives the learner's `datasets.Dataset`."""

_INJECTED = ("data_loading", "flops_utils.flops_learner_files_wrapper")


def no_data() -> Any:
    """What an aggregator has instead of data."""
    raise DataError(
        "the aggregator has no training data: load it in set_model_data(), which runs on "
        "learners only, not in ModelManager.__init__ or at import"
    )


class Workspace:
    """The modules of one repository as one learner (or the aggregator) sees them."""

    def __init__(self, folder: Path, load_data: LoadData = no_data) -> None:
        self.folder = folder.resolve()
        self._names = {entry.stem for entry in self.folder.iterdir()} - sys.stdlib_module_names
        self._modules = _data_modules(load_data)
        self._depth = 0

    def import_module(self, name: str) -> ModuleType:
        """Import one of the repository's top-level modules."""
        importlib.invalidate_caches()  # the folder may be younger than the last import
        with self.active():
            return importlib.import_module(name)

    @contextmanager
    def active(self) -> Iterator[None]:
        """Make this workspace the one that ``import`` sees. May be nested in itself."""
        self._depth += 1
        if self._depth > 1:
            try:
                yield
            finally:
                self._depth -= 1
            return
        hidden = self._hide_namesakes()
        writes_bytecode, sys.dont_write_bytecode = sys.dont_write_bytecode, True
        sys.modules.update(self._modules)
        sys.path.insert(0, str(self.folder))
        try:
            yield
        finally:
            sys.dont_write_bytecode = writes_bytecode
            sys.path.remove(str(self.folder))
            self._take_modules()
            sys.modules.update(hidden)
            self._depth -= 1

    def _hide_namesakes(self) -> dict[str, ModuleType]:
        """Take out modules of other origin that bear the name of one of ours.

        The standard library's stay: a plain ``python model_manager.py`` would have them
        loaded before any file of the user's, too.
        """
        names = [name for name in _INJECTED if name in sys.modules]
        # Thousands of modules are not searched for each task: a submodule without its
        # package is not to be had.
        tops = {name for name in self._names if name in sys.modules}
        if tops:
            names += [n for n in sys.modules if n.partition(".")[0] in tops and n not in names]
        return {name: sys.modules.pop(name) for name in names}

    def _take_modules(self) -> None:
        """Take our modules out again, with those that user code has imported meanwhile."""
        # `active` put ours at the end of the dictionary: what is younger stands behind them.
        eldest = next(iter(self._modules))
        for name in list(takewhile(lambda name: name != eldest, reversed(sys.modules))):
            if name in self._modules or self.owns(_origin(sys.modules[name])):
                self._modules[name] = sys.modules.pop(name)
        self._modules[eldest] = sys.modules.pop(eldest, self._modules[eldest])

    def owns(self, file: str | None) -> bool:
        """Whether a source file belongs to the repository (and not to a venv within it)."""
        if not file:
            return False
        path = Path(file)
        return path.is_relative_to(self.folder) and "site-packages" not in path.parts


def _origin(module: ModuleType) -> str | None:
    file = getattr(module, "__file__", None)
    if isinstance(file, str):
        return file
    paths = getattr(module, "__path__", None)  # a namespace package has folders, no file
    try:
        return str(next(iter(paths))) if paths is not None else None
    except Exception:  # lazy modules may do anything when touched
        return None


def _data_modules(load_data: LoadData) -> dict[str, ModuleType]:
    def load_data_from_ml_data_server() -> Any:
        """Give this learner's local data."""
        try:
            return load_data()
        except ImportError as error:
            # flops_utils reports any ImportError below it as a missing file, then exits.
            raise DataError(f"the training data needs a missing package: {error}") from error

    modern = ModuleType("data_loading", "This learner's data, from the flops-fl runtime.")
    modern.load_data_from_ml_data_server = load_data_from_ml_data_server  # type: ignore[attr-defined]
    older = ModuleType("flops_utils.flops_learner_files_wrapper", modern.__doc__)
    older.load_ml_data = load_data_from_ml_data_server  # type: ignore[attr-defined]
    older.load_dataset = load_data_from_ml_data_server  # type: ignore[attr-defined]
    return {module.__name__: module for module in (modern, older)}
