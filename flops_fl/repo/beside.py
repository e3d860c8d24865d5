"""What a model holds beside its parameters: frozen weights, buffers.

Learners whose models differ there train different models, whatever is averaged. The model is
asked by the methods that PyTorch's and keras' models have; no framework is imported.
"""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from flops_fl.types import Array, Parameters

PIECE = 1 << 20  # numbers that are converted at once


def _hash(*parts: bytes) -> hashlib.blake2b:
    return hashlib.blake2b(b"".join(parts), digest_size=16)


NOTHING = _hash().hexdigest()
"""Digest where all that the model holds are parameters."""


def digest_beside(model: Any, parameters: Parameters) -> str:
    """Digest (hex) of what is in `model` and not among `parameters`; empty if it does not tell.

    What has the values of a parameter is one, whatever its dtype. Values count as float32.
    """
    entries = [entry for entry in _entries(model) if hasattr(entry, "shape")]
    if not entries:
        return ""
    sizes = Counter(parameter.size for parameter in parameters)
    if Counter(map(_size, entries)) == sizes:  # as with most models: nothing need be read
        return NOTHING
    possible = {_size(entry) for entry in entries}
    known = {_digest(parameter) for parameter in parameters if parameter.size in possible}
    digests = [digest for digest in map(_digest, entries) if digest not in known]
    return _hash(*digests).hexdigest()


def _entries(model: Any) -> Iterable[Any]:
    if hasattr(model, "trainable_weights") and hasattr(model, "weights"):
        return list(model.weights)
    if callable(getattr(model, "named_buffers", None)):
        # By name: a state_dict leaves buffers out that are not to be saved.
        return [*(dict(model.named_buffers()) | model.state_dict()).values()]
    return ()


def _size(entry: Any) -> int:
    return math.prod(entry.shape)


def _digest(entry: Any) -> bytes:
    digest = _hash(f"{tuple(entry.shape)}".encode())
    for piece in _pieces(entry):
        digest.update(np.ascontiguousarray(piece).data)
    return digest.digest()


def _pieces(entry: Any) -> Iterator[Array]:
    """Its values as float32, few at a time."""
    detach = getattr(entry, "detach", None)  # a tensor of PyTorch, on any device
    flat: Any = (detach() if callable(detach) else np.asarray(entry)).reshape(-1)
    for start in range(0, _size(entry), PIECE):
        piece = flat[start : start + PIECE]
        if callable(detach):
            yield piece.cpu().float().numpy()
        else:
            with np.errstate(all="ignore"):
                yield piece.astype(np.float32)
