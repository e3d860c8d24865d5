"""The page of the API, from docstrings: read from the sources, of which nothing is imported."""

from __future__ import annotations

import ast
import re
from pathlib import Path

# What `import flops_fl` gives, and where it is defined; a test compares this with `flops_fl`.
PUBLIC = {
    "open_repository": "flops_fl/use/repository.py",
    "load": "flops_fl/use/model.py",
}
INTRODUCTION = """# API

What a script or a notebook may use. [Use the model](use-the-model.md) shows it at work. Your
repository's own classes are described in [ML repositories](ml-repositories.md).
"""
INSIDE = """## Inside

The modules of flops-fl, for those who change it. [Architecture](architecture.md) says how they hang
together. They may change without notice.
"""


def api_page(root: Path) -> str:
    """Markdown: the public functions, then each room's modules with a line each."""
    parts = [INTRODUCTION]
    for name, file in PUBLIC.items():
        parts.append(_function(name, ast.parse((root / file).read_text())))
    parts.append(INSIDE)
    rooms: dict[str, list[str]] = {}
    for path in sorted((root / "flops_fl").rglob("*.py")):
        line = (ast.get_docstring(ast.parse(path.read_text())) or "").partition("\n")[0]
        if line:
            place = path.relative_to(root)
            rooms.setdefault(f"{place.parent}/", []).append(f"| `{place.name}` | {line} |")
    for room, rows in rooms.items():
        parts.append("\n".join([f"### {room}\n", "| module | |", "| --- | --- |", *rows, ""]))
    return "\n".join(parts)


def _function(name: str, module: ast.Module) -> str:
    (node,) = (n for n in module.body if isinstance(n, ast.FunctionDef) and n.name == name)
    said = re.sub(r"``(.*?)``", r"`\1`", ast.get_docstring(node) or "")
    text, *sections = re.split(r"\n\n(?=Args:|Raises:|Returns:)", said)
    signature = f"flops_fl.{name}({ast.unparse(node.args)}) -> {ast.unparse(node.returns)}"
    signature = re.sub(r", (?=\*|\w+: )", ",\n    ", signature).replace("(", "(\n    ", 1)
    signature = signature.replace(") ->", ",\n) ->")
    return "\n\n".join(
        [f"## {name}", f"```python\n{signature}\n```", text, *map(_section, sections), ""]
    )


def _section(section: str) -> str:
    """A section of a docstring as a list."""
    title, _, body = section.partition("\n")
    items = re.split(r"\n(?=    \S)", body)
    shown = []
    for item in items:
        name, _, text = " ".join(item.split()).partition(": ")
        shown.append(f"- `{name}`: {text}")
    return "\n".join([f"**{title.rstrip(':')}**\n", *shown])
