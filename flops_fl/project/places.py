"""A JSON or YAML file as values, and the line in which each of them stands."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from flops_fl.errors import UsageError
from flops_fl.project.wording import of_json, of_yaml
from flops_fl.text import first_line

YAML = (".yaml", ".yml")


@dataclass(frozen=True, slots=True)
class Document:
    """What a file says.

    `values` are as `json.loads` or `yaml.safe_load` give them.
    """

    values: Any
    root: yaml.Node

    def line(self, path: Sequence[str | int]) -> int:
        """The line (from 1) of what stands at a path of keys and indices.

        Where there is no such thing, it is the line of what it belongs to.
        """
        node, line = self.root, _line(self.root)
        for step in path:
            found = next((pair for pair in _entries(node) if pair[0] == step), None)
            if found is None:
                break
            _, line, node = found
        return line

    def twice(self) -> Iterator[tuple[tuple[str, ...], int, int]]:
        """Keys that a mapping has twice: their paths, the line of the first and of the other.

        Only mappings that can be reached through mappings are looked at.
        """
        yield from _twice(self.root, ())


def read_document(file: Path) -> Document:
    """Read a file: YAML if it is named so, else JSON.

    Raises:
        UsageError: it cannot be read, or is neither.
    """
    try:
        text = file.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise UsageError(
            f"{file} cannot be read ({error.strerror}): expected a project's file, JSON or YAML"
        ) from None
    except UnicodeDecodeError as error:
        raise UsageError(f"{file} is not UTF-8 text ({error.reason}): save it as such") from None
    if not text.strip():
        raise UsageError(f"{file} is empty: expected a project, JSON or YAML")
    try:
        return _from_yaml(file, text) if file.suffix in YAML else _from_json(file, text)
    except RecursionError:
        raise UsageError(f"{file}: nested too deeply, expected a project") from None


def _from_json(file: Path, text: str) -> Document:
    try:
        values = json.loads(text)
    except json.JSONDecodeError as error:
        raise UsageError(f"{file}, {of_json(text, error)}: expected JSON") from None
    except ValueError as error:  # a number of thousands of digits
        raise UsageError(f"{file}: {first_line(error)}: expected JSON") from None
    try:
        # YAML takes all of JSON but tabs, and none can be within its texts.
        root = yaml.compose(text.replace("\t", " "), Loader=yaml.SafeLoader)
    except yaml.YAMLError as error:  # a control character
        raise UsageError(f"{file}: {first_line(error)}: expected plain text") from None
    assert root is not None
    return Document(values, root)


class _Loader(yaml.SafeLoader):
    """Takes each key as it is written, not as the number or date that it looks like."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        self.flatten_mapping(node)
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise yaml.constructor.ConstructorError(
                    None, None, "a key that is no text", key.start_mark
                )
        return {key.value: self.construct_object(each, deep=deep) for key, each in node.value}


def _from_yaml(file: Path, text: str) -> Document:
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
        values = yaml.load(text, Loader=_Loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f", line {mark.line + 1}" if mark else ""
        raise UsageError(f"{file}{where}: {of_yaml(error)}: expected YAML") from None
    except (yaml.YAMLError, ValueError) as error:  # a date of no calendar is a ValueError
        raise UsageError(f"{file}: {first_line(error)}: expected YAML") from None
    if root is None:
        raise UsageError(f"{file} has only comments: expected a project")
    return Document(values, root)


def _entries(node: yaml.Node) -> Iterator[tuple[str | int, int, yaml.Node]]:
    """The key or index, line and node of each item."""
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            if isinstance(key, yaml.ScalarNode):
                yield key.value, _line(key), value
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            yield index, _line(value), value


def _twice(node: yaml.Node, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], int, int]]:
    if not isinstance(node, yaml.MappingNode):
        return
    seen: dict[str, int] = {}
    for key, line, value in _entries(node):
        assert isinstance(key, str)
        here = (*path, key)
        if key in seen:
            yield here, seen[key], line
        else:
            seen[key] = line
            if len(here) < 3:  # a project has no deeper mappings
                yield from _twice(value, here)


def _line(node: yaml.Node) -> int:
    return int(node.start_mark.line) + 1
