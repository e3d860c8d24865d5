"""A repository's modules that have the name of a standard or an installed module.

A repository may have its own ``statistics.py`` or ``datasets.py``. An ``import`` in its own code
then gets its own module. All other code, which may import lazily while user code runs, gets the
other one. The repository's namesakes are therefore kept out of `sys.modules`, and cannot be
pickled by name.
"""

from __future__ import annotations

import builtins
import importlib.util
import os
import pkgutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import lru_cache
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType


class Namesakes:
    """One repository's namesakes: imports them for its own code and hides them from all other."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._prefix = f"{folder}{os.sep}"
        self._modules: dict[str, ModuleType] = {}
        self.names = _names(folder, folder.stat().st_mtime_ns)

    def owns(self, file: str | None) -> bool:
        """Whether a source file belongs to the repository, and not to a venv inside it."""
        return _is_within(file, self._prefix)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Choose the right namesake for each ``import``. Costs nothing if there are none."""
        if not self.names:
            yield
            return
        plain = builtins.__import__

        def choose(
            name: str,
            globals: Mapping[str, object] | None = None,
            locals: Mapping[str, object] | None = None,
            fromlist: Sequence[str] | None = (),
            level: int = 0,
        ) -> ModuleType:
            scope = sys._getframe(1).f_globals if globals is None else globals
            file, package = scope.get("__file__"), str(scope.get("__package__") or "")
            if isinstance(file, str) and self.owns(file):
                full = importlib.util.resolve_name("." * level + name, package) if level else name
                if full.partition(".")[0] in self.names:
                    return self._import(full, fromlist)
            return plain(name, globals, locals, fromlist, level)

        sys.meta_path.insert(0, self)
        builtins.__import__ = choose
        try:
            yield
        finally:
            builtins.__import__ = plain
            sys.meta_path.remove(self)

    def find_spec(self, name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        """Find the other module of a name, past the repository's folder, first in `sys.path`."""
        return _find(name, self._folder) if path is None and name in self.names else None

    def load(self, name: str) -> ModuleType:
        """The repository's module or submodule of a name, loaded on first use.

        Raises:
            ModuleNotFoundError: the repository has no such module.
        """
        if name in self._modules:
            return self._modules[name]
        parent, _, last = name.rpartition(".")
        path = getattr(self.load(parent), "__path__", ()) if parent else [str(self._folder)]
        spec = PathFinder.find_spec(name, path)
        if spec is None:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        module = self._modules[name] = importlib.util.module_from_spec(spec)
        try:
            if spec.loader is not None:  # a folder without __init__.py has none
                spec.loader.exec_module(module)
        except BaseException:
            del self._modules[name]
            raise
        if parent:
            setattr(self._modules[parent], last, module)
        return module

    def _import(self, name: str, fromlist: Sequence[str] | None) -> ModuleType:
        """Return what `__import__` returns for an absolute name."""
        module = self.load(name)
        for attribute in fromlist or ():
            if not hasattr(module, attribute) and hasattr(module, "__path__"):
                with suppress(ModuleNotFoundError):
                    self.load(f"{name}.{attribute}")
        return module if fromlist else self.load(name.partition(".")[0])


@lru_cache(maxsize=8)
def _names(folder: Path, changed: int) -> frozenset[str]:
    """The folder's modules that exist elsewhere, too; cached for all learners of a process."""
    # A folder without __init__.py is left out: by Python's own rules any other module of its
    # name comes first.
    found = {module.name for module in pkgutil.iter_modules([str(folder)])}
    return frozenset(name for name in found if _is_elsewhere(name, folder))


def _is_elsewhere(name: str, folder: Path) -> bool:
    if name in sys.modules:
        return not _is_within(origin_of(sys.modules[name]), f"{folder}{os.sep}")
    spec = _find(name, folder)
    return name in sys.stdlib_module_names or bool(spec and spec.origin)


def _find(name: str, folder: Path) -> ModuleSpec | None:
    """Where Python finds a module outside the repository."""
    path = [entry for entry in sys.path if Path(entry).resolve() != folder]
    return PathFinder.find_spec(name, path)


def _is_within(file: str | None, prefix: str) -> bool:
    return file is not None and file.startswith(prefix) and "site-packages" not in Path(file).parts


def origin_of(module: ModuleType) -> str | None:
    """The file that a module comes from; for a package without __init__.py, its folder."""
    file = getattr(module, "__file__", None)
    if isinstance(file, str):
        return file
    paths = getattr(module, "__path__", None)
    try:
        return str(next(iter(paths))) if paths is not None else None
    except Exception:  # lazy modules may do anything when touched
        return None
