"""What is wrong in a file, in sentences: the key's path, its line, the value, what was expected.

A model says what it expects of a field in the field's description. Where a validator raises an
error with a text, that text says it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from typing import Any, TypeAlias, get_args

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from flops_fl.options.reading import nearest, similar
from flops_fl.project.places import Document
from flops_fl.text import sentence, without_secrets

SHOWN = 60  # characters of a value

Section: TypeAlias = type[BaseModel]


def mistakes(error: ValidationError | None, model: Section, document: Document) -> list[str]:
    """A sentence for each mistake, in the order of the file's lines."""
    found = {}
    errors: list[Any] = list(error.errors()) if error else []
    unknown = [each["loc"] for each in errors if each["type"] == "extra_forbidden"]
    meant = {(*path[:-1], _meant(path, model)) for path in unknown}
    for each in errors:
        if each["type"] != "missing" or each["loc"] not in meant:
            found[_sentence(each, model, document)] = document.line(each["loc"])
    for path, first, again in document.twice():
        found[f"{_place(path, again)}: twice, line {first} has it, too"] = again
    return sorted(found, key=lambda text: found[text])


def _place(path: Sequence[str | int], line: int) -> str:
    return f"{sentence('.'.join(map(str, path))) or 'the file'}, line {line}"


def _sentence(each: Any, model: Section, document: Document) -> str:
    path = each["loc"]
    place = _place(path, document.line(path))
    if each["type"] == "extra_forbidden":
        return f"{place}: no such key{_instead(path, model)}"
    expected = _expected(model, path)
    if each["type"] == "missing":
        return f"{place}: missing, expected {expected}"
    value = each["input"]
    shown = without_secrets(sentence(json.dumps(value, default=str, ensure_ascii=False), SHOWN))
    context = each.get("ctx", {})
    if said := str(context.get("error", "")):
        return f"{place}: {shown}, {said}"
    choices = re.findall("'([^']+)'", str(context.get("expected")))
    guess = similar(value, choices) if isinstance(value, str) else ""
    return f"{place}: {shown}, expected {expected}{guess}"


def _instead(path: Sequence[str | int], model: Section) -> str:
    """The key that may have been meant, or where this one belongs, or all that there are."""
    here = _section(model, path[:-1])
    for section, name in _sections(model):
        if section is not here and path[-1] in _named(section):
            return f": it belongs into {name}"
    if meant := _meant(path, model):
        return f" (did you mean {meant}?)"
    return f": expected {', '.join(_named(here))}"


def _meant(path: Sequence[str | int], model: Section) -> str:
    """The known key that is most similar, if one is at all."""
    return nearest(str(path[-1]), list(_named(_section(model, path[:-1]))))


def _expected(model: Section, path: Sequence[str | int]) -> str:
    """What a field expects; of an item in a list it is what the list expects."""
    if not path:
        return f"a mapping with {', '.join(_named(model))}"
    field = None
    for step in path:
        found = _named(model).get(str(step))
        if found is None:
            break
        field, model = found, _model_of(found) or model
    assert field is not None
    return field.description or ""


def _section(model: Section, path: Sequence[str | int]) -> Section:
    for step in path:
        model = _model_of(_named(model)[str(step)]) or model
    return model


def _sections(model: Section) -> Iterator[tuple[Section, str]]:
    """The whole, and its sections with their names."""
    yield model, "the file itself"
    for name, field in _named(model).items():
        if section := _model_of(field):
            yield section, name


def _named(model: Section) -> dict[str, FieldInfo]:
    """The fields by the keys that a file has for them."""
    return {field.alias or name: field for name, field in model.model_fields.items()}


def _model_of(field: FieldInfo) -> Section | None:
    for kind in (field.annotation, *get_args(field.annotation)):
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            return kind
    return None
