"""Numerical precision of the networks' layers."""

import torch
from torch import Tensor, nn

# The built-in networks do not depend on torch's default dtype.
DTYPE = torch.float32


def in_full_precision(layer: nn.Module, X: Tensor) -> Tensor:
    """Apply a layer in float32 also where autocast is enabled.

    For output layers: small differences between embeddings decide which neighbors are nearest.
    """
    if not torch.is_autocast_enabled(X.device.type):
        return layer(X)
    with torch.autocast(X.device.type, enabled=False):
        return layer(X.float())
