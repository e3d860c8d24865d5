"""Draws in a repository's code that no seed of the runtime reaches, as far as source shows them."""

from __future__ import annotations

import ast
from pathlib import Path

from flops_fl.check.code import Place
from flops_fl.repo.dependencies import sources
from flops_fl.repo.imports import parsed

SYSTEM = {"SystemRandom", "urandom", "uuid1", "uuid4", "token_bytes", "token_hex", "randbits"}
"""Functions that draw from the machine."""
SEEDED = {
    *("default_rng", "RandomState", "Random", "seed", "SeedSequence", "PCG64", "Philox"),
    *("set_seed", "SeedGenerator", "from_non_deterministic_state"),
}
"""Functions that take a seed, and without one take it from the machine."""
CLOCKS = {"time", "time_ns", "now", "perf_counter", "monotonic", "getpid"}
TAKE_SEEDS = SEEDED | {"manual_seed", "PRNGKey", "key", "from_seed"}


def unseeded_draw(folder: Path) -> tuple[Place, str] | None:
    """The first call in a repository's code that draws without a seed, and its text."""
    for file in sources(folder):
        calls = [node for node in ast.walk(parsed(file, folder)) if isinstance(node, ast.Call)]
        for call in sorted(calls, key=lambda each: each.lineno):
            if _is_unseeded(call):
                return Place(str(file.relative_to(folder)), call.lineno), ast.unparse(call)
    return None


def _is_unseeded(call: ast.Call) -> bool:
    name, given = _name(call), [*call.args, *(each.value for each in call.keywords)]
    if name in SYSTEM:
        return True
    is_empty = all(isinstance(value, ast.Constant) and value.value is None for value in given)
    if name in SEEDED and is_empty:
        return True
    inner = (node for value in given for node in ast.walk(value) if isinstance(node, ast.Call))
    return name in TAKE_SEEDS and any(_name(node) in CLOCKS for node in inner)


def _name(call: ast.Call) -> str:
    return str(getattr(call.func, "attr", getattr(call.func, "id", "")))
