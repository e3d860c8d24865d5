"""Joins the Arrow tables of one learner into a Dataset after checking that they agree.

Hugging Face features (Image, ClassLabel, ...) travel in the Arrow schema's ``huggingface``
metadata. Concatenation silently keeps the metadata of the first table, so class 3 of one file
could get the name of class 3 in another. Therefore all tables' features are compared here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from flops_fl.errors import DataError
from flops_fl.text import first_line


def join_tables(named: Sequence[tuple[str, Any]], *, fingerprint: str) -> Any:
    """Concatenate tables, in the order given, into one `EagerDataset`.

    Args:
        named: Pairs of a name for messages (a file, a flight) and a `pyarrow.Table`.
        fingerprint: Identifies the content: at most 64 characters, valid in a file name. Without
            one `datasets` would hash all the data, which takes about 20 ms for each MB.

    Raises:
        DataError: Two tables differ in columns or features, or there is not one row.
    """
    import datasets
    import pyarrow as pa

    from flops_fl.data.dataset import wrap

    first_name, first = named[0]
    features = features_of(first_name, first.schema)
    for name, table in named[1:]:
        require_same(first_name, features, name, features_of(name, table.schema))
    columns = first.column_names
    try:
        table = pa.concat_tables(
            [table.select(columns) for _, table in named],
            promote_options="default",  # a column may be nullable in some of the tables only
        )
        dataset = datasets.Dataset(table, fingerprint=fingerprint)
    except (pa.ArrowException, ValueError, TypeError) as error:
        names = ", ".join(name for name, _ in named)
        raise DataError(
            f"{names} cannot be joined into one dataset: {first_line(error)}"
        ) from error
    if not len(dataset):
        raise DataError(f"no rows in {first_name}{_others(named)}: training needs at least one")
    return wrap(dataset)


def rows_within(size: int, rows: int, nbytes: int) -> int:
    """How many of `rows` rows of `nbytes` bytes have about `size` bytes; at least one."""
    return max(1, size * rows // max(nbytes, 1))


def features_of(name: str, schema: Any) -> Any:
    """Read the `datasets.Features` of an Arrow schema and its metadata.

    Raises:
        DataError: The ``huggingface`` metadata is not what `datasets` writes.
    """
    import datasets

    try:
        return datasets.Features.from_arrow_schema(schema)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(
            f"{name} has a column type or 'huggingface' schema metadata that datasets "
            f"{datasets.__version__} does not understand ({first_line(error)}): write it again "
            "with that version"
        ) from error


def require_same(first: str, expected: Any, name: str, found: Any) -> None:
    """Check that two tables have the same features.

    Args:
        first, name: What the tables are called in the message.

    Raises:
        DataError: they differ; the message says where.
    """
    for column in [*expected, *(c for c in found if c not in expected)]:
        ours, theirs = expected.get(column), found.get(column)
        if ours != theirs:
            raise DataError(  # the remedy first: of a long sentence others see the beginning
                "data that are trained on together need the same columns and features, so write "
                f"some of them again or choose by tag: column '{column}' is {_say(theirs)} in "
                f"{name} but {_say(ours)} in {first}"
            )


def _say(feature: Any) -> str:
    return "missing" if feature is None else str(feature)


def _others(named: Sequence[tuple[str, Any]]) -> str:
    return f" and {len(named) - 1} more" if len(named) > 1 else ""
