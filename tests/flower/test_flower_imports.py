"""Every name of flwr that we use exists. A new version of Flower may remove some."""

import ast
import importlib

import pytest

from tests.conftest import ROOT


def names_of_flwr():
    """``module:name`` for each import of flwr, and each attribute of a module of its."""
    found = set()
    for file in [*(ROOT / "flops_fl").rglob("*.py"), *(ROOT / "tests/peers").glob("stock_*.py")]:
        tree, modules = ast.parse(file.read_text()), {}
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("flwr"):
                found |= {f"{node.module}:{alias.name}" for alias in node.names}
                modules |= {a.asname or a.name: f"{node.module}.{a.name}" for a in node.names}
            elif isinstance(node, ast.Import):
                flower = [alias for alias in node.names if alias.name.split(".")[0] == "flwr"]
                modules |= {alias.asname or "flwr": alias.name for alias in flower}
                found |= {f"{alias.name}:__name__" for alias in flower}
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                module = modules.get(node.value.id, "")
                if module and not module.split(".")[-1][0].isupper():
                    found.add(f"{module}:{node.attr}")
    return sorted(found)


def test_the_names_are_found():
    assert {"flwr.app:Message", "flwr.client:NumPyClient", "flwr.server.strategy:Bulyan"} < set(
        names_of_flwr()
    )


@pytest.mark.filterwarnings("ignore")  # deprecations: they are there
@pytest.mark.parametrize("name", names_of_flwr())
def test_a_name_of_flowers_is_there(name):
    module, _, attribute = name.partition(":")
    try:
        found = importlib.import_module(module)
    except ModuleNotFoundError:
        parent, _, inner = module.rpartition(".")
        found = getattr(importlib.import_module(parent), inner)
    if not hasattr(found, attribute):
        importlib.import_module(f"{module}.{attribute}")  # a module that nobody imported yet
