"""What a parser of JSON or YAML takes offence at, in words of those who write a project's file."""

from __future__ import annotations

import json
import re

import yaml

from flops_fl.text import sentence

_OF_JSON = {
    "Expecting property name enclosed in double quotes": "the key {} is not in double quotes",
    "Expecting ',' delimiter": "no comma before {}",
    "Expecting ':' delimiter": "no colon before {}",
    "Expecting value": "{} is no value, expected a number, a text in double quotes, true, false, "
    "null, a list or a mapping",
    "Extra data": "{} after the end of the project",
    "Unterminated string starting at": "the text {} has no closing double quote",
    "Invalid control character at": "a text with a tab or an end of line, expected \\t or \\n",
}
_OF_YAML = {
    "but found another document": "a second document begins (---), give each a file of its own",
    "mapping values are not allowed here": "a colon that makes no key here, indent the keys of a "
    "mapping alike, and put a text with a colon in quotes",
    r"found character '\t' that cannot start any token": "a tab, indent with spaces",
    "could not find expected ':'": "no colon after the key in this line or in the one before",
    "found unexpected end of stream": "the file ends within a text, a quote is not closed",
}
_CUT = "the file ends too early, a bracket or a brace is not closed"


def of_json(text: str, error: json.JSONDecodeError) -> str:
    """What is wrong, and in which line.

    Args:
        text: All of the file.
    """
    if comma := _trailing_comma(text, error.pos):
        return comma
    after = text[error.pos :].lstrip()
    said = _OF_JSON.get(error.msg, f"{error.msg}, column {error.colno}").replace("{}", _word(after))
    if error.msg.startswith(("Expecting", "Extra")):
        said = said if after else _CUT
        if after.startswith(("#", "//", "/*")):
            said = "a comment, which JSON does not have (YAML has: name the file .yaml)"
    return f"line {error.lineno}: {said}"


def of_yaml(error: yaml.MarkedYAMLError) -> str:
    """What is wrong."""
    said = str(error.problem)
    return _CUT if "'<stream end>'" in said else _OF_YAML.get(said, said)


def _word(text: str) -> str:
    """The first word of a text, or its first character."""
    found = re.match(r"[\w$.+-]+|(['\"])[^'\"\n]*\1?|\S|$", text)
    return sentence(found[0] if found else "", 60)


def _trailing_comma(text: str, position: int) -> str:
    """What is wrong if a list or mapping ends in a comma, and where.

    Args:
        position: Of what json takes offence at: the comma from Python 3.13 on, before that what
            follows it.
    """
    after = text[position:].lstrip(", \t\r\n")
    before = text.removesuffix(after)
    if before.rstrip().endswith(",") and after[:1] in ("}", "]"):
        line = before.count("\n") + 1
        return f"line {line}: a comma before {after[0]}, which JSON does not have"
    return ""
