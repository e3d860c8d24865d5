"""Keep tensors in a memory-mapped temporary file, for large models that are seldom read.

The file is unlinked as soon as it is open, so no crash can leave it behind. The kernel may write
its pages out and drop them at any time; `release_pages` drops them at once.
"""

from __future__ import annotations

import logging
import mmap
import os
import tempfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from flops_fl.types import Array, Layout, Parameters

log = logging.getLogger(__name__)

RELEASE_BYTES = 64 << 20  # bytes of a file's pages that are in memory at a time
_ALIGN = 64  # bytes; tensors in the file start on a cache line
_BLOCK = 16 << 20  # bytes copied at a time


def spooled(layout: Layout, folder: Path | None) -> list[Array]:
    """Make arrays of zeros with `layout` in a file in `folder` (None: the temporary folder).

    Raises:
        OSError: there is no room for the file, or the folder cannot be written.
    """
    offsets, end = [], 0
    for spec in layout.tensors:
        offsets.append(end)
        end += -(-spec.nbytes // _ALIGN) * _ALIGN
    with tempfile.TemporaryFile(dir=folder) as file:
        # Allocate the disk space now: a page without space later would end the process (SIGBUS).
        os.posix_fallocate(file.fileno(), 0, max(end, 1))
        memory = mmap.mmap(file.fileno(), max(end, 1))
    return [
        np.ndarray(spec.shape, spec.dtype, memory, offset)
        for spec, offset in zip(layout.tensors, offsets, strict=True)
    ]


def spool(parameters: Parameters, folder: Path | None) -> list[Array]:
    """Copy a model into a file. The caller drops the copy in memory.

    Raises:
        OSError: as `spooled`.
    """
    arrays = spooled(Layout.of(parameters), folder)
    for source, target in zip(parameters, arrays, strict=True):
        ours, theirs = target.reshape(-1), np.ascontiguousarray(source).reshape(-1)
        step = max(1, _BLOCK // ours.itemsize)
        for at in range(0, ours.size, step):
            ours[at : at + step] = theirs[at : at + step]
            release_pages([target])
    return arrays


def keep(folder: Path, large: int, parameters: Parameters) -> Parameters:
    """Keep the global model between rounds: in memory, or in a file from `large` bytes on."""
    try:
        return spool(parameters, folder) if is_large(parameters, large) else parameters
    except OSError as error:
        log.warning("no room in %s (%s): the model stays in memory", folder, error)
        return parameters


def is_large(parameters: Parameters, large: int) -> bool:
    """Whether a model has at least `large` bytes."""
    return Layout.of(parameters).nbytes >= large


def release_pages(arrays: Iterable[Array]) -> None:
    """Drop the pages of arrays that lie in a file from this process; their values stay."""
    for memory in {id(found): found for found in map(_file_of, arrays) if found}.values():
        memory.madvise(mmap.MADV_DONTNEED)  # shared mapping: the file has the values


def _file_of(array: Array) -> mmap.mmap | None:
    base = array.base
    while isinstance(base, np.ndarray):
        base = base.base
    return base if isinstance(base, mmap.mmap) else None
