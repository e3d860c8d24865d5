"""Digest of a model's state outside its parameters: frozen weights and buffers.

Learners that differ in this state train different models, even though their parameters are
averaged. The state is read with the methods of PyTorch and keras models; no framework is imported.
"""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from flops_fl.types import Array, Parameters

PIECE = 1 << 20  # numbers converted at a time


def _hash(*parts: bytes) -> hashlib.blake2b:
    return hashlib.blake2b(b"".join(parts), digest_size=16)


NOTHING = _hash().hexdigest()
"""Digest of a model without state outside its parameters."""


def hidden_state_digest(model: Any, parameters: Parameters) -> str:
    """Digest (hex) of the tensors in `model` that are not among `parameters`.

    Values are compared as float32, so a tensor with a parameter's values counts as that parameter
    whatever its dtype. Empty if the model has no known way to list its tensors.
    """
    entries = [entry for entry in _entries(model) if hasattr(entry, "shape")]
    if not entries:
        return ""
    sizes = Counter(parameter.size for parameter in parameters)
    if Counter(map(_size, entries)) == sizes:  # most models: no values need to be read
        return NOTHING
    possible = {_size(entry) for entry in entries}
    known = {_digest(parameter) for parameter in parameters if parameter.size in possible}
    digests = [digest for digest in map(_digest, entries) if digest not in known]
    return _hash(*digests).hexdigest()


def _entries(model: Any) -> Iterable[Any]:
    if hasattr(model, "trainable_weights") and hasattr(model, "weights"):
        return list(model.weights)
    if callable(getattr(model, "named_buffers", None)):
        # Both: a state_dict leaves out buffers that are not persistent.
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
    """The values of a tensor as float32, at most `PIECE` at a time."""
    detach = getattr(entry, "detach", None)  # a PyTorch tensor, on any device
    flat: Any = (detach() if callable(detach) else np.asarray(entry)).reshape(-1)
    for start in range(0, _size(entry), PIECE):
        piece = flat[start : start + PIECE]
        if callable(detach):
            yield piece.cpu().float().numpy()
        else:
            with np.errstate(all="ignore"):
                yield piece.astype(np.float32)
