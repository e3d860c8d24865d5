"""`flops-fl init`: a new ML repository from templates, which are ordinary Python files."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from importlib.resources import files
from shlex import quote
from typing import TextIO

from flops_fl.errors import UsageError
from flops_fl.init.features import DIGITS, Features, look_at
from flops_fl.options.init import Framework, InitRepoOptions

WIDTH = 80  # characters of a list, which has a name before it
PACKAGES: dict[Framework, str] = {
    "numpy": "",
    "sklearn": "  - scikit-learn>=1.5,<1.10\n",
    "pytorch": "  - pip\n  - pip:\n      - torch>=2.4\n",
    "keras": "  - pip\n  - pip:\n      - keras>=3\n      - torch>=2.4\n",
}
"""What each framework adds to the list of dependencies, its end."""


def init(options: InitRepoOptions, stdout: TextIO) -> None:
    """Write a repository into a new folder, and print what to do next.

    Raises:
        UsageError: the folder is not empty or cannot be written, or no model fits the data.
    """
    folder = options.name
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UsageError(f"{folder} is there and not empty: give another name")
    features = look_at(options.data, options.label) if options.data else DIGITS
    texts = contents(folder.absolute().name, options.framework, features)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in texts.items():
            (folder / name).write_text(text)
    except OSError as error:
        raise UsageError(f"{folder} cannot be written ({error.strerror}): give another") from error
    stdout.write(f"{folder}: {', '.join(texts)}\n")
    if features.left_out:
        stdout.write(f"not used: {', '.join(features.left_out)}\n")
    data = quote(str(options.data)) if options.data else "digits"
    if options.data:
        stdout.write(f"next: flops-fl check {quote(str(folder))} --data {data}\n")
    stdout.write(f"next: flops-fl simulate {quote(str(folder))} --learners 3 --data {data}\n")


def contents(name: str, framework: Framework, features: Features) -> dict[str, str]:
    """The files of a repository, by name."""
    conda_name = re.sub(r"[^\w.-]", "-", name).strip("-.") or "model"
    pillow = "  - pillow>=10\n" if features.pictures else ""
    return {
        "model_manager.py": _template(f"models/{framework}.py"),
        "data_manager.py": _data_manager(features),
        "conda.yaml": (
            f"name: {conda_name}\nchannels:\n  - conda-forge\ndependencies:\n  - python>=3.11\n"
            f"  - numpy>=1.26\n{pillow}{PACKAGES[framework]}"
        ),
        ".gitignore": "__pycache__/\nruns/\n",
    }


def _template(name: str) -> str:
    return files("flops_fl.init").joinpath("templates", name).read_text("utf-8")


def _data_manager(features: Features) -> str:
    """The template for the data, with its constants."""
    labels = features.labels
    numbered = isinstance(labels, range)
    constants = {
        "LABEL": _code(features.label),
        "LABELS": f"list(range({len(labels)}))" if numbered else _listed("[", labels, "]"),
    }
    if features.column:
        template = "data/arrays.py"
        constants |= {"COLUMN": _code(features.column), "SHAPE": str(features.shape)}
        constants["SCALE"] = str(features.scale)
    else:
        template = "data/columns.py"
        constants["LEFT_OUT"] = _listed("{", [features.label, *features.left_out], "}")
        constants["INPUTS"] = str(features.inputs)

    def line(found: re.Match[str]) -> str:
        return f"{found[1]} = {constants.get(found[1], found[2])}"

    return re.sub(r"^([A-Z]\w*) = (.*)$", line, _template(template), flags=re.MULTILINE)


def _listed(start: str, values: Iterable[object], end: str) -> str:
    """Values as the code of a list or a set, on lines of their own where they are many."""
    items = list(map(_code, values))
    short = f"{start}{', '.join(items)}{end}"
    if len(short) < WIDTH:
        return short
    return "\n".join([start, *(f"    {item}," for item in items), end])


def _code(value: object) -> str:
    """A value as code, texts in double quotes unless they contain some."""
    plain = isinstance(value, str) and '"' not in value
    return json.dumps(value, ensure_ascii=False) if plain else repr(value)
