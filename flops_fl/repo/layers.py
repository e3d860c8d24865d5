"""Seeds the random generators inside keras layers, such as Dropout's.

Such a generator counts its draws. Without a new seed for each task, a learner that was restarted
would draw other numbers than one that was not.
"""

from __future__ import annotations

import random
import sys
from typing import Any


def seed_layers(manager: Any) -> None:
    """Seed the generators of keras models among a ModelManager's attributes, from `random`."""
    layer = getattr(sys.modules.get("keras"), "Layer", None)
    if layer is None:
        return
    for model in getattr(manager, "__dict__", {}).values():
        if isinstance(model, layer):
            for variable in model.variables:
                if variable.path.endswith("seed_generator_state"):
                    variable.assign([random.getrandbits(31), 0])
