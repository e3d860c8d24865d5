"""Make draws depend on seed, learner and round only: not on host, order or retries.

User code draws from the global generators of `random`, NumPy, PyTorch, TensorFlow and keras.
They are seeded before a ModelManager is built, before it loads its data, and before each fit and
evaluation. JAX has no global generator: its keys are user code's own.
"""

from __future__ import annotations

import hashlib
import random
import sys
from contextlib import suppress

import numpy as np

from flops_fl.types import Stage


def seed_generators(seed: int, learner: str, round: int, stage: str) -> None:
    """Seed the process's global generators; a framework's only if something has imported it."""
    text = f"{seed}/{learner}/{round}/{stage}".encode()
    value = int.from_bytes(hashlib.sha256(text).digest()[:8], "little")
    torch = sys.modules.get("torch")
    if torch is not None:
        torch.manual_seed(value)  # every device's
    _seed_tensorflow(value % 2**31)
    _seed_keras(value % 2**31)
    # These come last: keras draws from `random` when it makes its generator, the first time.
    random.seed(value)
    np.random.seed(value % 2**32)


def _seed_tensorflow(value: int) -> None:
    stateful = getattr(sys.modules.get("tensorflow"), "random", None)
    if stateful is None:
        return
    stateful.set_seed(value)
    with suppress(RuntimeError):  # TensorFlow's deterministic mode forbids such a generator
        stateful.get_global_generator().reset_from_seed(value)


def _seed_keras(value: int) -> None:
    """Seed the generator behind `keras.random`, in place: compiled functions refer to it.

    `keras.utils.set_random_seed` would import TensorFlow wherever it is installed.
    """
    generators = sys.modules.get("keras.src.random.seed_generator")
    if generators is not None:
        generators.global_seed_generator().state.assign([value, 0])


def seed_build(seed: int) -> None:
    """Seed the build of a model: the same on all learners and on the aggregator."""
    seed_generators(seed, "model", 0, "build")


def seed_data(learner: str) -> None:
    """Seed the loading of a learner's data by its id alone, so that every run splits it alike."""
    seed_generators(0, learner, 0, "data")


def selection(seed: int, round: int, stage: Stage) -> random.Random:
    """The generator that draws a stage's learners from the sorted ids."""
    text = f"{seed}/{round}/{stage}/select".encode()
    return random.Random(hashlib.sha256(text).digest())
