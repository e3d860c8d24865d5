"""Which attribute of a ModelManager keeps something from one fit to the next."""

from __future__ import annotations

import random
from collections.abc import Collection, Iterator
from typing import Any

import numpy as np

DEPTH = 3  # ModelManager -> DataManager -> DataLoader


def what_lasts(manager: Any, modules: Collection[str]) -> tuple[str, str, str]:
    """Name the attribute that most likely lasts, without asking a framework.

    Args:
        modules: The repository's own modules, whose objects are looked into.

    Returns:
        The ModelManager's attribute (empty if none is known), what it is, and what to do.
    """
    for path, value in _attributes(manager, modules):
        name = path.partition(".")[0]
        if hasattr(value, "param_groups") and hasattr(value, "zero_grad"):
            return name, f"self.{path} is an optimiser that lives on", "make it in fit_model"
        if getattr(value, "optimizer", None) is not None:
            what = f"self.{path} is compiled with an optimiser that lives on"
            return name, what, "compile it in fit_model"
        if _is_generator(value) or _is_generator(getattr(value, "generator", None)):
            what = f"self.{path} is a random generator that goes on where it stood"
            return name, what, "draw from the global generators, which the runtime seeds"
        if getattr(value, "warm_start", False) or hasattr(value, "partial_fit"):
            what = f"self.{path} remembers more than its parameters"
            return name, what, "make it anew in fit_model, from the parameters"
    return "", "something lives on from one fit to the next", (
        "make all that a fit changes in fit_model itself, or return it with the parameters"
    )  # fmt: skip


def _attributes(owner: Any, modules: Collection[str]) -> Iterator[tuple[str, Any]]:
    """Attributes by their paths, nearest first."""
    level, seen = [("", owner)], {id(owner)}
    for _ in range(DEPTH):
        below = []
        for path, value in level:
            for name, inner in getattr(value, "__dict__", {}).items():
                where = f"{path}.{name}".lstrip(".")
                yield where, inner
                if type(inner).__module__ in modules and id(inner) not in seen:
                    seen.add(id(inner))
                    below.append((where, inner))
        level = below


def _is_generator(value: Any) -> bool:
    kinds = (random.Random, np.random.Generator, np.random.RandomState)
    is_torchs = type(value).__name__ == "Generator" and hasattr(value, "manual_seed")
    return isinstance(value, kinds) or is_torchs
