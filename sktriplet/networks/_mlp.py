"""Multilayer perceptron."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from sktriplet.networks._precision import DTYPE, in_full_precision


class MLP(nn.Module):
    """Multilayer perceptron with batch normalization, for tables.

    Each hidden layer is a linear layer followed by batch normalization and ReLU. The output
    layer is linear, and is computed in float32 even under autocast.

    Parameters
    ----------
    input_shape : tuple of int
        Shape of a sample, ``(n_features,)``.
    n_components : int
        Number of output features.
    hidden_layer_sizes : sequence of int, default=(256, 128)
        Number of units in each hidden layer. If empty, the network is linear.
    generator : torch.Generator, default=None
        Random number generator for the initial weights. By default, torch's global generator is
        used.

    See Also
    --------
    MLPEnsemble : Several multilayer perceptrons, trained together.

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
        hidden_layer_sizes: Sequence[int] = (256, 128),
        *,
        generator: torch.Generator | None = None,
    ):
        super().__init__()
        (width,) = input_shape
        layers: list[nn.Module] = []
        for size in hidden_layer_sizes:
            layers += [nn.Linear(width, size, dtype=DTYPE)]
            layers += [nn.BatchNorm1d(size, dtype=DTYPE), nn.ReLU()]
            width = size
        self.layers = nn.Sequential(*layers)
        self.head = nn.Linear(width, n_components, dtype=DTYPE)
        for layer in [*layers, self.head]:
            if isinstance(layer, nn.Linear):
                bound = layer.in_features**-0.5
                nn.init.uniform_(layer.weight, -bound, bound, generator=generator)
                nn.init.zeros_(layer.bias)

    def forward(self, X: Tensor) -> Tensor:
        """Compute the embeddings of a batch.

        Parameters
        ----------
        X : Tensor of shape (n_samples, n_features)
            Batch of samples.

        Returns
        -------
        embeddings : Tensor of shape (n_samples, n_components)
            Embeddings of the samples, not normalized.
        """
        return in_full_precision(self.head, self.layers(X))
