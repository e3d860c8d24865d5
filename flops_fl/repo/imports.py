"""Which packages a repository's code imports, read from its source, and which of them it lists.

Only modules that `model_manager.py` reaches by imports count: a script beside them that draws
pictures needs nothing on a learner.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, packages_distributions
from pathlib import Path

from packaging.utils import canonicalize_name

from flops_fl.errors import RepositoryError
from flops_fl.repo.environment import Entry
from flops_fl.repo.runtime import RUNTIME, requirements_of, runtime_needs

CONTRACT = ("model_manager", "data_manager")
GIVEN = frozenset({"flops_utils", "flops_fl", "data_loading"})
"""Modules that the runtime brings to every repository."""

DISTRIBUTIONS = {
    "Bio": ("biopython",),
    "bs4": ("beautifulsoup4",),
    "cv2": ("opencv-python", "opencv-python-headless", "opencv-contrib-python"),
    "dateutil": ("python-dateutil",),
    "faiss": ("faiss-cpu", "faiss-gpu"),
    "fitz": ("pymupdf",),
    "dotenv": ("python-dotenv",),
    "lightning": ("lightning",),
    "nacl": ("pynacl",),
    "PIL": ("pillow",),
    "pytorch_lightning": ("pytorch-lightning",),
    "serial": ("pyserial",),
    "skimage": ("scikit-image",),
    "sklearn": ("scikit-learn",),
    "sksurv": ("scikit-survival",),
    "skopt": ("scikit-optimize",),
    "tensorflow": ("tensorflow", "tensorflow-cpu", "tensorflow-gpu", "tensorflow-intel"),
    "xgboost": ("xgboost", "xgboost-cpu"),
    "yaml": ("pyyaml",),
    "zmq": ("pyzmq",),
}
"""Distributions of modules that are named otherwise, or that several distributions have."""

COMPANIONS = {
    "keras": ("torch", "tensorflow", "tensorflow-cpu", "jax"),
    "datasets": ("pillow", "soundfile", "torchcodec"),
    "flops-utils": ("datasets", "pillow"),
    "pandas": ("pyarrow", "openpyxl", "numexpr"),
}
"""Packages that others import by themselves where they are there, such as a backend of keras."""

CALLS = {"to_pandas": "pandas", "to_polars": "polars", "to_tf_dataset": "tensorflow"}
"""Methods of a Dataset, as `load_dataset` gives it, and the module that each imports."""


@dataclass(frozen=True, slots=True)
class Import:
    """The first place at which the code imports a package."""

    module: str
    """The top-level name, such as ``sklearn``."""
    file: str
    """The file, relative to the repository."""
    line: int
    optional: bool = False
    """Whether the code goes on where the import fails."""
    call: str = ""
    """The method of others that imports it, if the code does not do it itself."""


@dataclass(frozen=True, slots=True)
class Unlisted:
    """An import whose package the dependency file does not list."""

    found: Import
    distribution: str
    """The package that has it, as far as is known."""
    comes_with: str
    """A package that brings it nevertheless; empty if none does."""


def packages_imported(folder: Path) -> list[Import]:
    """The packages that a repository's code imports, each at its first place, by file and line.

    Left out are the standard library, modules of the repository and those that the runtime gives.

    Raises:
        RepositoryError: a file is no Python.
    """
    found: dict[str, Import] = {}
    pending, seen = [*CONTRACT], set(CONTRACT)
    while pending:
        file = _file_of(folder, pending.pop(0))
        if file is None:
            continue
        tree = parsed(file, folder)
        for method, line in _called(tree):
            name = str(file.relative_to(folder))
            found.setdefault(CALLS[method], Import(CALLS[method], name, line, True, method))
        for name, node, optional in imported_by(tree):
            top, inner = name.partition(".")[0], _own_modules(folder, name)
            pending += [module for module in inner if module not in seen]
            seen.update(inner)
            if inner or top in sys.stdlib_module_names or top in GIVEN:
                continue
            here = Import(top, str(file.relative_to(folder)), node.lineno, optional)
            if top not in found or found[top].call or (found[top].optional and not optional):
                found[top] = here
    return sorted(found.values(), key=lambda each: (each.file, each.line))


def parsed(file: Path, folder: Path) -> ast.Module:
    """A source file as a tree.

    Raises:
        RepositoryError: it is no Python.
    """
    try:
        return ast.parse(file.read_bytes(), str(file))
    except (SyntaxError, ValueError) as error:
        line = getattr(error, "lineno", None) or 1
        name = file.relative_to(folder)
        raise RepositoryError(
            f"{name} line {line} is not valid Python ({getattr(error, 'msg', error)}): mend it",
            stage="import",
            line=line,
        ) from error


def imported_by(tree: ast.AST, optional: bool = False) -> Iterator[tuple[str, ast.stmt, bool]]:
    """Every dotted name that a tree imports, the statement, and whether it may fail."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            continue
        if isinstance(node, ast.Import):
            yield from ((alias.name, node, optional) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield from ((f"{node.module}.{alias.name}", node, optional) for alias in node.names)
        elif isinstance(node, ast.Expr | ast.Assign | ast.AnnAssign | ast.Return):
            yield from ((name, node, optional) for name in _by_name(node))
        elif isinstance(node, ast.Try) and any(map(_catches, node.handlers)):
            yield from imported_by(node, optional=True)
        else:
            yield from imported_by(node, optional)


def distributions_of(module: str) -> tuple[str, ...]:
    """The packages that may have a module, in PEP 503's normal form, the likeliest first.

    >>> distributions_of("sklearn")
    ('scikit-learn',)
    """
    known = DISTRIBUTIONS.get(module, ())
    here = () if known else _installed().get(module, ())
    return tuple(dict.fromkeys(map(canonicalize_name, [*known, *here] or [module])))


def unlisted(imports: Iterable[Import], entries: Sequence[Entry]) -> list[Unlisted]:
    """The imports whose packages are not listed; those left out that may fail."""
    listed = {entry.name for entry in entries}
    found = []
    for each in imports:
        may_be = set(distributions_of(each.module))
        if each.optional or listed & may_be:
            continue
        by = [entry.name for entry in entries if _brings(entry.name) & may_be]
        by += [RUNTIME] if may_be & runtime_needs().keys() else []
        found.append(Unlisted(each, distributions_of(each.module)[0], next(iter(by), "")))
    return found


def unused(imports: Iterable[Import], entries: Sequence[Entry]) -> list[Entry]:
    """The packages that are listed, but neither imported nor needed by one that is."""
    used = {name for each in imports for name in distributions_of(each.module)}
    used |= {"flops-utils"}
    for name in [*used]:
        used |= {*_brings(name), *COMPANIONS.get(name, ())}
    return [
        entry for entry in entries if entry.pip and entry.requirement and entry.name not in used
    ]


def _file_of(folder: Path, module: str) -> Path | None:
    path = folder.joinpath(*module.split("."))
    places = (path.with_suffix(".py"), path / "__init__.py")
    return next((place for place in places if place.is_file()), None)


def _own_modules(folder: Path, name: str) -> list[str]:
    """The repository's modules that an import of a dotted name reads: its packages, and itself."""
    parts = name.split(".")
    if not (_file_of(folder, parts[0]) or (folder / parts[0]).is_dir()):
        return []
    return [".".join(parts[: end + 1]) for end in range(len(parts))]


def _by_name(node: ast.stmt) -> Iterator[str]:
    """The names in ``importlib.import_module("name")`` and ``__import__("name")``."""
    for call in ast.walk(node):
        if isinstance(call, ast.Call) and len(call.args) == 1:
            called, said = call.func, call.args[0]
            name = getattr(called, "attr", getattr(called, "id", ""))
            if name in ("import_module", "__import__") and isinstance(said, ast.Constant):
                yield str(said.value)


def _called(tree: ast.AST) -> Iterator[tuple[str, int]]:
    """Each call of a method in `CALLS`, and its line."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and (said := getattr(node.func, "attr", "")) in CALLS:
            yield said, node.lineno


def _catches(handler: ast.ExceptHandler) -> bool:
    return handler.type is None or any(
        name in ast.dump(handler.type) for name in ("ImportError", "ModuleNotFound", "Exception'")
    )


@lru_cache(maxsize=1)
def _installed() -> dict[str, list[str]]:
    return {module: sorted(set(names)) for module, names in packages_distributions().items()}


@lru_cache
def _brings(name: str) -> frozenset[str]:
    """All that an installed package needs, and what those need; empty if it is not installed."""
    found: set[str] = set()
    pending = [name] if name else []  # a URL has none
    while pending:
        try:
            required = {canonicalize_name(each.name) for each in requirements_of(pending.pop())}
        except PackageNotFoundError:
            continue
        pending += required - found
        found |= required
    return frozenset(found)
