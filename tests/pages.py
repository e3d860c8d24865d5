"""What the pages show, read from them: commands, lines of Python, files."""

import re
from pathlib import Path

ROOT = Path(__file__).parent.parent


def blocks(text, language=""):
    """The fenced blocks of a page, or of a section; all of a language if one is given."""
    found = re.findall(r"^```(\w*)\n(.*?)^```", text, re.M | re.S)
    return [block for told, block in found if told == language or not language]


def files(text):
    """The files that a page shows in full: a name in backticks and a colon, then a block."""
    return dict(re.findall(r"^`([\w./-]+)`:\n\n```\w+\n(.*?)^```", text, re.M | re.S))


def joined(text):
    """All commands of a page, in blocks or in backticks, each on a line of its own."""
    shown = "".join(blocks(text)).replace("\\\n", " ").split("\n")
    return [*shown, *re.findall(r"`([^`\n]+ [^`\n]+)`", text)]
