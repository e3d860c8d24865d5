"""A `datasets.Dataset` that returns columns as values, as it did before datasets 4.

Since datasets 4.0 ``dataset["image"]`` is a lazy `Column`, without ``reshape`` or
arithmetic. ML repositories written for FLOps call ``dataset.set_format("numpy")`` and then
``dataset["image"].reshape(...)``. Their code runs unchanged on an `EagerDataset`.
"""

from __future__ import annotations

import copy
import functools
import inspect
from collections.abc import Callable
from typing import Any

import datasets


class EagerDataset(datasets.Dataset):  # type: ignore[misc]  # datasets is untyped here
    """A Dataset that returns a whole column, as an array or list, for a string key.

    Its methods (select, map, train_test_split, ...) return an `EagerDataset`, too. Functions of
    the package, such as `datasets.concatenate_datasets`, return a plain `Dataset`.
    """

    def __getitem__(self, key: Any) -> Any:
        if isinstance(key, str) and key not in self.column_names:
            raise KeyError(f"the data have no column {key!r}: {', '.join(self.column_names)}")
        value = super().__getitem__(key)
        return value[:] if isinstance(value, datasets.Column) else value


def wrap(dataset: Any) -> EagerDataset:
    """Return an `EagerDataset` with the same table, format and fingerprint; copies no data.

    Source: https://huggingface.co/docs/datasets, "What's new in datasets 4", lazy columns.
    """
    return dataset if isinstance(dataset, EagerDataset) else _adopt(copy.copy(dataset))


def _adopt(dataset: Any) -> Any:
    # Assigning the class keeps indices, format and fingerprint. A constructor call would have to
    # know every field that a Dataset has in each version.
    dataset.__class__ = EagerDataset
    return dataset


def _eager(method: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(method)
    def call(*args: Any, **kwargs: Any) -> Any:
        result = method(*args, **kwargs)
        # The method made this plain Dataset, so nobody else holds it.
        if type(result) is datasets.Dataset:
            return _adopt(result)
        if isinstance(result, datasets.DatasetDict):
            for name, part in result.items():
                result[name] = wrap(part)
        return result

    return call


def _wrap_methods() -> None:
    """Wrap every public method; a list of names would miss those of the next version."""
    for name, method in vars(datasets.Dataset).items():
        if not name.startswith("_") and inspect.isfunction(method):
            setattr(EagerDataset, name, _eager(method))


_wrap_methods()
