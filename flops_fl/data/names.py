"""Names of data on a server: ``TAG.HASH.parquet``, as FLOps' ML data server has them. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence

from flops_fl.errors import DataError, UsageError
from flops_fl.text import sentence

SUFFIX = ".parquet"
PART = ".part"  # the ending of a data server's temporary files
BEGUN = ".begun"  # the ending of a put that was cut off
UNFINISHED = "unfinished"
"""In a listing's criteria, true: also list puts that were cut off, and how many rows are there. In
their descriptors it stands after the name, and they have no endpoint."""
FROM = b"from="
"""In a put's descriptor, after the name, with a number: the rows before are there already. With
``from=0`` none are; if the put is cut off, what has arrived stays for the next one."""
COUNTED = b"counted"
"""In a put's descriptor, after the name: the last message will say how many rows were sent. Without
it, a stream that its client has given up looks like one that is complete."""
NAME_BYTES = 200  # most file systems take 255, and a temporary name is longer
_SEPARATORS = set("/\\,")  # of folders, and of tags on the command line


def has_tag(name: str, tags: Sequence[str]) -> bool:
    """Whether a data file's name begins with one of the tags and a dot. Tags may contain dots."""
    return any(name.startswith(f"{tag}.") for tag in tags)


def without_data(tags: Sequence[str], names: Iterable[str]) -> list[str]:
    """The tags with which none of these names begins."""
    there = list(names)
    return [tag for tag in tags if not any(has_tag(name, [tag]) for name in there)]


def tag_of(name: str) -> str:
    """The tag in a data file's name, if its part before the ending is a hash."""
    stem = name.rpartition(".")[0]
    return stem.rpartition(".")[0] or stem


def check_name(name: str) -> str:
    """Return a flight's name, which is safe as a file's.

    Raises:
        DataError: it is another one than ``TAG.HASH.parquet``.
    """
    if not (
        name.endswith(SUFFIX)
        and name.count(".") >= 2
        and "" not in name.split(".")
        and _is_safe(name)
    ):
        raise DataError(
            f"the name {sentence(name, 80)!r}: expected TAG.HASH{SUFFIX} such as "
            f"mnist.4f2a9c01{SUFFIX}, without '/', '\\' and ',', up to {NAME_BYTES} bytes"
        )
    return name


def check_tag(tag: str) -> str:
    """Return a tag, which is safe as the beginning of a flight's name.

    Raises:
        UsageError: it is not.
    """
    if "" in tag.split(".") or not _is_safe(tag, NAME_BYTES - 40):
        raise UsageError(
            f"tag '{sentence(tag, 80)}': expected a file name's beginning, without '/', '\\', ',', "
            f"without a dot at either end, up to {NAME_BYTES - 40} bytes"
        )
    return tag


def _is_safe(text: str, most: int = NAME_BYTES) -> bool:
    """Whether a file can have this name, in the folder that it is meant for and in no other."""
    return text.isprintable() and not set(text) & _SEPARATORS and len(text.encode()) <= most


def read_criteria(expression: bytes) -> tuple[list[str], bool]:
    """The tags in a listing's criteria, JSON ``{"data_tags": [...]}``; none for all flights.

    Also whether it asks for puts that were cut off.

    Raises:
        DataError: it is something else.
    """
    if not expression:
        return [], False
    try:
        criteria = json.loads(expression)
        tags, unfinished = criteria["data_tags"], criteria.get(UNFINISHED) is True
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        tags, unfinished = None, False
    if not isinstance(tags, list) or not all(isinstance(tag, str) for tag in tags):
        raise DataError('the criteria: expected JSON such as {"data_tags": ["mnist"]}')
    return tags, unfinished
