"""TODO."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from sktriplet.networks._precision import in_full_precision


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
    >>> from sktriplet.networks import MLP
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
        self.layers = nn.Sequential(*layers)
        self.head = nn.Linear(width, n_components)
        for layer in [*layers, self.head]:
            if isinstance(layer, nn.Linear):
                bound = layer.in_features**-0.5
                nn.init.uniform_(layer.weight, -bound, bound, generator=generator)
                nn.init.zeros_(layer.bias)

    def forward(self, X: Tensor) -> Tensor:  # noqa: D102
        return in_full_precision(self.head, self.layers(X))
