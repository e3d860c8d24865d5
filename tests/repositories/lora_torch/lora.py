"""Low-rank adapters around frozen layers (Hu et al. 2021, arXiv:2106.09685)."""

import torch
from torch import nn


class Adapted(nn.Module):
    """A frozen linear layer and a trainable product of rank `rank` beside it."""

    def __init__(self, layer, rank, scale):
        super().__init__()
        self.layer, self.scale = layer, scale
        self.down = nn.Parameter(torch.randn(rank, layer.in_features) / layer.in_features**0.5)
        self.up = nn.Parameter(torch.zeros(layer.out_features, rank))

    def forward(self, inputs):
        return self.layer(inputs) + inputs @ self.down.T @ self.up.T * self.scale


def adapt(network, rank=4, scale=2.0):
    """Wrap each linear layer of a Sequential."""
    return nn.Sequential(
        *(Adapted(m, rank, scale) if isinstance(m, nn.Linear) else m for m in network)
    )
