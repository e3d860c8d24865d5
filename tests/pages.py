"""What the pages show, read from them: commands, lines of Python, files."""

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent
COMMAND = re.compile(r"^(?:flops-fl|python|make|pip|flwr|flower-\w+|scp) ", re.M)
MARK = re.compile(r"<!-- (run by|not run:) (.*?) -->")


@dataclass(frozen=True)
class Block:
    """A fenced block, the mark that holds for it, and the page's text since the block before."""

    before: str
    mark: re.Match | None
    language: str
    text: str

    @property
    def left_out(self):
        """Whether its mark says that nobody runs it."""
        return self.mark is not None and self.mark[1] == "not run:"


def marked(text):
    """A page's blocks with their marks. A mark holds until the next one or the next heading."""
    found, before, mark = [], "", None
    for part in re.split(r"^(?=#+ |<!-- )|^(```\w*\n.*?^```)$", text, flags=re.M | re.S):
        if part is None:
            continue
        if part.startswith("```"):
            language, _, content = part[3:-3].partition("\n")
            found.append(Block(before, mark, language, content))
            before = ""
            continue
        before += part
        if part.startswith("#"):
            mark = None
        mark = MARK.match(part) or mark
    return found


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
