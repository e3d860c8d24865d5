"""A frozen base network, made from its configuration: nothing is downloaded."""

from itertools import pairwise

from torch import nn

CONFIG = {"inputs": 64, "width": 256, "layers": 2, "classes": 10}


def build_base(inputs, width, layers, classes):
    """A network that is not trained: its weights are drawn from torch's generator."""
    widths = [inputs] + [width] * layers
    hidden = [
        layer for one, other in pairwise(widths) for layer in (nn.Linear(one, other), nn.ReLU())
    ]
    return nn.Sequential(*hidden, nn.Linear(width, classes)).requires_grad_(False)
