"""Imports a repository's modules, isolated from those of other repositories and learners.

User code imports from the repository's root: ``from data_manager import DataManager``.
A `Workspace` is one private set of such modules. While it is active, its folder is first in
`sys.path`, its modules are in `sys.modules`, and the process is in its working folder. Afterwards
all this is restored. So several repositories, or several learners of one, can share a process
without seeing each other.

`flops_utils` asks a top-level module ``data_loading`` for the learner's data. Each workspace
has its own module object of that name, so no file is written into the user's folder.
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
from flops_fl.repo.namesakes import Namesakes, origin_of
from flops_fl.repo.workfolder import WorkFolder, WorkFolders

LoadData = Callable[[], Any]
"""Returns the learner's `datasets.Dataset`."""

_INJECTED = ("data_loading", "flops_utils.flops_learner_files_wrapper")


def no_data() -> Any:
    """The aggregator's `LoadData`: raises, as the aggregator has no data."""
    raise DataError(
        "the aggregator has no training data: load it in set_model_data(), which runs on "
        "learners only, not in ModelManager.__init__ or at import"
    )


class Workspace:
    """A repository as one learner (or the aggregator) sees it.

    Args:
        folder: The repository's files.
        load_data: Returns the learner's Dataset.
        work: The folder in which user code runs; None: a new one.
    """

    def __init__(
        self,
        folder: Path,
        load_data: LoadData = no_data,
        work: WorkFolder | None = None,
    ) -> None:
        self.folder = folder.resolve()
        self._namesakes = Namesakes(self.folder)
        self._folders = WorkFolders(self.folder)  # unused if `work` is given
        self._work = work or self._folders.of("")
        self._modules = data_modules(load_data)
        self._depth = 0
        self._working = False

    def import_module(self, name: str) -> ModuleType:
        """Import one of the repository's modules, or an installed one."""
        importlib.invalidate_caches()  # the folder may be newer than Python's cache of finders
        with self.active():
            ours = name.partition(".")[0] in self._namesakes.names
            return self._namesakes.load(name) if ours else importlib.import_module(name)

    def close(self) -> None:
        """Remove the working folder, except for files that user code has written there."""
        self._work.close()
        self._folders.close()

    @contextmanager
    def active(self) -> Iterator[None]:
        """Let user code run with its modules and in its working folder. Calls may be nested."""
        with self.importable():
            if self._working:
                yield
                return
            self._working = True
            # What this process was told is not meant for a parser in the repository.
            told, sys.argv = sys.argv, [str(self.folder / "model_manager.py")]
            try:
                with self._work.entered():
                    yield
            finally:
                sys.argv = told
                self._working = False

    @contextmanager
    def importable(self) -> Iterator[None]:
        """Let ``import`` find this workspace's modules. Calls may be nested, also in `active`."""
        self._depth += 1
        if self._depth > 1:
            try:
                yield
            finally:
                self._depth -= 1
            return
        hidden = {name: sys.modules.pop(name) for name in _INJECTED if name in sys.modules}
        writes_bytecode, sys.dont_write_bytecode = sys.dont_write_bytecode, True
        sys.modules.update(self._modules)
        sys.path.insert(0, str(self.folder))
        try:
            with self._namesakes.in_place():
                yield
        finally:
            sys.dont_write_bytecode = writes_bytecode
            sys.path.remove(str(self.folder))
            self._take_modules()
            sys.modules.update(hidden)
            self._depth -= 1

    def _take_modules(self) -> None:
        """Take the workspace's modules out of `sys.modules`, newly imported ones included."""
        # `importable` put ours at the end of the dictionary, so newer ones stand behind them.
        eldest = next(iter(self._modules))
        for name in list(takewhile(lambda name: name != eldest, reversed(sys.modules))):
            if name in self._modules or self.owns(origin_of(sys.modules[name])):
                self._modules[name] = sys.modules.pop(name)
        self._modules[eldest] = sys.modules.pop(eldest, self._modules[eldest])

    @property
    def modules(self) -> set[str]:
        """Names of the repository's own modules that have been imported."""
        return {name for name, module in self._modules.items() if self.owns(origin_of(module))}

    def owns(self, file: str | None) -> bool:
        """Whether a source file belongs to the repository, and not to a venv inside it."""
        return self._namesakes.owns(file)


def data_modules(load_data: LoadData) -> dict[str, ModuleType]:
    """The modules in which user code looks for the learner's data, by name."""

    def load_data_from_ml_data_server() -> Any:
        """Return this learner's local data."""
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
