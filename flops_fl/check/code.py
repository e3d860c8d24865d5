"""What can be seen in a repository's source without importing it: its class and its methods.

A class or a method that comes from elsewhere (an installed package, a decorator) is left to the
trial, which builds the object.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TypeAlias

from flops_fl.check.finding import Finding, error
from flops_fl.errors import RepositoryError
from flops_fl.repo.contract import METHODS, NO_CLASS, lacking
from flops_fl.repo.imports import CONTRACT, Import, packages_imported, parsed

Function: TypeAlias = ast.FunctionDef | ast.AsyncFunctionDef

MODULE = CONTRACT[0]
CLASS = "ModelManager"
TEMPLATES = ("ModelManagerTemplate", "ABC", "object")
"""Bases whose methods are abstract, so that they define none."""

TAKES = {
    "__init__": "self",
    "set_model_data": "self",
    "get_model": "self",
    "get_model_parameters": "self",
    "set_model_parameters": "self, parameters",
    "fit_model": "self",
    "evaluate_model": "self",
}
RETURNS = {
    "get_model_parameters": "a list of arrays",
    "fit_model": "the number of training samples",
    "evaluate_model": "loss, accuracy, number of test samples",
}


@dataclass(frozen=True, slots=True)
class Place:
    """A file, relative to the repository, and a line in it."""

    file: str
    line: int


@dataclass
class Code:
    """A repository's ModelManager as its source shows it."""

    folder: Path
    _trees: dict[str, ast.Module] = field(default_factory=dict)

    @cached_property
    def imports(self) -> list[Import]:
        """The packages that the code imports.

        Raises:
            RepositoryError: a file is no Python.
        """
        return packages_imported(self.folder)

    @cached_property
    def manager(self) -> tuple[str, ast.ClassDef] | None:
        """The class and the module that defines it; None if the source does not show it."""
        return self._class(MODULE, CLASS)

    @cached_property
    def methods(self) -> dict[str, tuple[str, Function]]:
        """The methods, with the modules that define them, own bases included."""
        return dict(reversed(list(self._methods(self.manager)))) if self.manager else {}

    @property
    def is_whole(self) -> bool:
        """Whether all bases of the class are shown, so that a method not found is missing."""
        return bool(self.manager) and self._shows_all(self.manager)

    def place(self, stage: str) -> Place:
        """Where the code of a stage of the contract begins."""
        if stage in self.methods:
            module, method = self.methods[stage]
            return Place(self._file(module), method.lineno)
        if self.manager and stage != "import":
            return Place(self._file(self.manager[0]), self.manager[1].lineno)
        return Place(f"{MODULE}.py", 1)

    def assignment(self, attribute: str) -> Place | None:
        """Where a method of the class first assigns an attribute of itself."""
        for module, method in self.methods.values():
            for node in ast.walk(method):
                targets = node.targets if isinstance(node, ast.Assign) else ()
                names = [each.attr for target in targets for each in ast.walk(target)
                         if isinstance(each, ast.Attribute)]  # fmt: skip
                if attribute in names:
                    return Place(self._file(module), node.lineno)  # type: ignore[attr-defined]
        return None

    def _file(self, module: str) -> str:
        path = Path(*module.split("."))
        is_module = (self.folder / path).with_suffix(".py").is_file()
        return str(path.with_suffix(".py") if is_module else path / "__init__.py")

    def _tree(self, module: str) -> ast.Module | None:
        if module not in self._trees:
            file = self.folder / self._file(module)
            if not file.is_file():
                return None
            self._trees[module] = parsed(file, self.folder)
        return self._trees[module]

    def _class(self, module: str, name: str) -> tuple[str, ast.ClassDef] | None:
        """A class by the name that it has in a module, through imports from own modules."""
        tree = self._tree(module)
        for node in reversed(tree.body if tree else []):
            if isinstance(node, ast.ClassDef) and node.name == name:
                return module, node
            if isinstance(node, ast.ImportFrom) and node.module and not node.level:
                for alias in node.names:
                    if name == (alias.asname or alias.name) and node.module != module:
                        return self._class(node.module, alias.name)
        return None

    def _bases(self, found: tuple[str, ast.ClassDef]) -> list[tuple[str, ast.ClassDef] | None]:
        """The bases of a class but for the templates; None for one that is not shown."""
        names = [ast.unparse(base).rpartition(".")[2] for base in found[1].bases]
        return [self._class(found[0], name) for name in names if name not in TEMPLATES]

    def _shows_all(self, found: tuple[str, ast.ClassDef] | None) -> bool:
        if found is None or found[1].decorator_list:
            return False
        return all(map(self._shows_all, self._bases(found)))

    def _methods(
        self, found: tuple[str, ast.ClassDef] | None
    ) -> Iterator[tuple[str, tuple[str, Function]]]:
        if found is None:
            return
        for node in reversed(found[1].body):
            if isinstance(node, Function):
                yield node.name, (found[0], node)
        for base in self._bases(found):
            yield from self._methods(base)


def check_code(code: Code) -> list[Finding]:
    """The mistakes in a repository's files, class and methods that need no import to be seen."""
    try:
        return list(_mistakes(code))
    except RepositoryError as raised:  # not even Python
        file = str(raised).partition(" line ")[0]
        return [error("syntax", file, raised.line, str(raised), "mend this line")]


def _mistakes(code: Code) -> Iterator[Finding]:
    for each in code.imports:
        if each.module in CONTRACT:
            yield error(
                "no-file", each.file, each.line,
                f"the repository has no {each.module}.py, which it imports here",
                "write it or commit it (docs/ml-repositories.md)",
            )  # fmt: skip
    if code.manager is None:
        if not _may_define(code._tree(MODULE)):
            yield error("no-class", f"{MODULE}.py", 1, NO_CLASS, f"write class {CLASS} there")
        return
    missing = [name for name in METHODS if name not in code.methods]
    if missing and code.is_whole and not _assigns(code.manager[1]):
        place = code.place(CLASS)
        which = ", ".join(f"{name}({TAKES[name]})" for name in missing)
        yield error("no-method", place.file, place.line, lacking(missing), f"add {which}")
    for name, (_, method) in code.methods.items():
        if name in TAKES:
            place = code.place(name)
            for rule, what, remedy in _method_mistakes(name, method):
                yield error(rule, place.file, place.line, f"{CLASS}.{name} {what}", remedy)


def _may_define(tree: ast.Module | None) -> bool:
    """Whether a module gets the class in a way that its source does not show."""
    defined = ast.walk(tree) if tree else ()
    return any(
        (isinstance(node, ast.Name) and node.id == CLASS)
        or (isinstance(node, ast.alias) and CLASS in (node.name, node.asname))
        or (isinstance(node, ast.alias) and node.name == "*")
        or (isinstance(node, ast.ClassDef) and node.name == CLASS)
        for node in defined
    )


def _assigns(found: ast.ClassDef) -> bool:
    """Whether the class assigns names, which may be methods: ``fit_model = other``."""
    return any(isinstance(node, ast.Assign | ast.AnnAssign) for node in found.body)


def _method_mistakes(name: str, method: Function) -> Iterator[tuple[str, str, str]]:
    if isinstance(method, ast.AsyncFunctionDef):
        yield "signature", "is async, and nobody awaits it", f"write def {name}({TAKES[name]})"
        return
    if not method.decorator_list and (takes := _signature_mistake(name, method)):
        yield "signature", takes, f"write def {name}({TAKES[name]})"
    if name in RETURNS and (returns := _return_mistake(name, method)):
        yield "return", returns, f"return {RETURNS[name]}"


def _signature_mistake(name: str, method: ast.FunctionDef) -> str:
    """What is wrong with a method's arguments: the runtime could not call it; else empty."""
    given = method.args
    positional = [*given.posonlyargs, *given.args]
    required = [arg.arg for arg in positional[: len(positional) - len(given.defaults)]]
    required += [arg.arg for arg, value in zip(given.kwonlyargs, given.kw_defaults, strict=True)
                 if value is None]  # fmt: skip
    if name == "fit_model":
        required = [arg for arg in required if arg != "config"]
    wanted = TAKES[name].split(", ")
    if len(required) > len(wanted):
        return f"needs {', '.join(required[len(wanted) :])}, which the runtime does not give"
    if len(positional) < len(wanted) and not given.vararg:
        return f"takes ({', '.join(arg.arg for arg in positional)}), expected ({TAKES[name]})"
    return ""


def _return_mistake(name: str, method: ast.FunctionDef) -> str:
    """What is wrong with what a method returns; empty if it cannot be seen."""
    returns = list(_returns(method))
    if not any(each.value for each in returns):
        ends = method.body[-1]
        is_open = isinstance(ends, ast.Raise) or any(
            isinstance(node, ast.Yield | ast.YieldFrom) for node in ast.walk(method)
        )
        return "" if is_open else "returns nothing"
    for each in returns:
        if name == "evaluate_model" and isinstance(each.value, ast.Tuple):
            count = len(each.value.elts)
            starred = any(isinstance(value, ast.Starred) for value in each.value.elts)
            if count != 3 and not starred:
                return f"returns {count} values, expected three"
    return ""


def _returns(node: ast.AST) -> Iterator[ast.Return]:
    """The return statements of a function, but not of functions inside it."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Return):
            yield child
        elif not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            yield from _returns(child)
