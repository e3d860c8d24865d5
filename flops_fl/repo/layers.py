"""Generators that keras' layers keep for themselves, such as Dropout's.

They count their draws: without a seed for each task a learner that was restarted would draw
others than one that was not.
"""

from __future__ import annotations

import random
import sys
from typing import Any


def seed_layers(manager: Any) -> None:
    """Seed those of the keras models that are attributes of a ModelManager, from Python's."""
    layer = getattr(sys.modules.get("keras"), "Layer", None)
    if layer is None:
        return
    for model in getattr(manager, "__dict__", {}).values():
        if isinstance(model, layer):
            for variable in model.variables:
                if variable.path.endswith("seed_generator_state"):
                    variable.assign([random.getrandbits(31), 0])
