"""Make draws depend on seed, learner and round only: not on host, order or retries.

User code draws from the global generators of `random`, NumPy and torch. They are seeded
before a ModelManager is built, before it loads its data, and before each fit and evaluation.
"""

from __future__ import annotations

import hashlib
import random
import sys

import numpy as np

from flops_fl.types import Stage


def seed_generators(seed: int, learner: str, round: int, stage: str) -> None:
    """Seed the process's global generators; torch's only if something has imported it."""
    text = f"{seed}/{learner}/{round}/{stage}".encode()
    value = int.from_bytes(hashlib.sha256(text).digest()[:8], "little")
    random.seed(value)
    np.random.seed(value % 2**32)
    torch = sys.modules.get("torch")
    if torch is not None:
        torch.manual_seed(value)  # every device's


def seed_build(seed: int) -> None:
    """Seed the build of a model: the same on all learners and on the aggregator."""
    seed_generators(seed, "model", 0, "build")


def seed_data(learner: str) -> None:
    """Seed the loading of a learner's data, by its id alone: a run's seed changes no split."""
    seed_generators(0, learner, 0, "data")


def selection(seed: int, round: int, stage: Stage) -> random.Random:
    """The generator that draws a stage's learners: from their ids in order."""
    text = f"{seed}/{round}/{stage}/select".encode()
    return random.Random(hashlib.sha256(text).digest())
