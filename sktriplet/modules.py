"""The networks, and what stands before and behind them."""

from collections import OrderedDict
from collections.abc import Sequence

import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn
from torch.nn import functional as F


class MLP(nn.Module):
    """Fully connected layers with batch normalisation, for tables.

    Parameters
    ----------
    input_shape : tuple of int
        ``(n_features,)``.

    n_components : int
        Width of the output.

    hidden_layer_sizes : sequence of int, default=(128, 64)

    generator : torch.Generator, default=None
        Source of the initial weights. None is torch's global generator.

    Examples
    --------
    >>> import torch
    >>> from sktriplet.modules import MLP
    >>> MLP((4,), 2)(torch.zeros(3, 4)).shape
    torch.Size([3, 2])
    """

    def __init__(
        self,
        input_shape: tuple[int, ...],
        n_components: int,
        hidden_layer_sizes: Sequence[int] = (128, 64),
        *,
        generator: torch.Generator | None = None,
    ):
        super().__init__()
        (width,) = input_shape
        layers: list[nn.Module] = []
        for size in hidden_layer_sizes:
            layers += [nn.Linear(width, size), nn.BatchNorm1d(size), nn.ReLU()]
            width = size
        self.layers = nn.Sequential(*layers, nn.Linear(width, n_components))
        for layer in self.layers:
            if isinstance(layer, nn.Linear):
                bound = layer.in_features**-0.5
                nn.init.uniform_(layer.weight, -bound, bound, generator=generator)
                nn.init.zeros_(layer.bias)

    def forward(self, X: Tensor) -> Tensor:  # noqa: D102
        return self.layers(X)


class Standardizer(nn.Module):
    """``(X - mean) / scale`` with the statistics of the training rows.

    Parameters
    ----------
    mean, scale : array-like of shape (n_features,)
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, mean: ArrayLike, scale: ArrayLike):
        super().__init__()
        self.register_buffer("mean", torch.as_tensor(mean, dtype=torch.float32))
        self.register_buffer("scale", torch.as_tensor(scale, dtype=torch.float32))

    def forward(self, X: Tensor) -> Tensor:  # noqa: D102
        return (X - self.mean) / self.scale


class UnitSphere(nn.Module):
    """Each row divided by its Euclidean norm."""

    def forward(self, X: Tensor) -> Tensor:  # noqa: D102
        return F.normalize(X, dim=1)


def embedding_network(
    body: nn.Module,
    *,
    standardizer: Standardizer | None = None,
    normalize: bool = True,
) -> nn.Sequential:
    """Chain what is asked for: standardizer, body, projection on the sphere."""
    parts = {
        "standardizer": standardizer,
        "body": body,
        "normalizer": UnitSphere() if normalize else None,
    }
    return nn.Sequential(
        OrderedDict((name, part) for name, part in parts.items() if part is not None)
    )
