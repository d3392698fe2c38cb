"""The networks, and what stands before and behind them."""

import copy
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.preprocessing import StandardScaler
from sklearn.utils import gen_batches
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
        self.layers = nn.Sequential(*layers)
        self.head = nn.Linear(width, n_components)
        for layer in [*layers, self.head]:
            if isinstance(layer, nn.Linear):
                bound = layer.in_features**-0.5
                nn.init.uniform_(layer.weight, -bound, bound, generator=generator)
                nn.init.zeros_(layer.bias)

    def forward(self, X: Tensor) -> Tensor:  # noqa: D102
        return _in_full_precision(self.head, self.layers(X))


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


def merged_moments(moments: StandardScaler, rows: NDArray[np.float32]) -> StandardScaler:
    """Let more rows into the means and deviations, in parts: scikit-learn copies them."""
    for part in gen_batches(len(rows), max(1, 2**21 // rows[0].size)):
        moments.partial_fit(rows[part])
    return moments


def make_body(
    module: Any,
    input_shape: tuple[int, ...],
    n_components: Any,
    hidden_layer_sizes: Sequence[int],
    seed: int,
) -> nn.Module:
    """Return the network that is asked for.

    Parameters
    ----------
    module : "auto", class, callable or nn.Module
        ``"auto"`` is an `MLP`, a class or callable is called with
        ``(input_shape, n_components)``, a module is copied.

    input_shape : tuple of int

    n_components : int or None

    hidden_layer_sizes : sequence of int
        Of the `MLP`.

    seed : int
        Of its initial weights.
    """
    if isinstance(module, nn.Module):
        return copy.deepcopy(module)
    if module == "auto":
        generator = torch.Generator().manual_seed(seed)
        return MLP(input_shape, n_components, hidden_layer_sizes, generator=generator)
    return module(input_shape, n_components)


class EmbeddingNetwork(nn.Module):
    """A network, and what stands before and behind it.

    Parameters
    ----------
    body : nn.Module
        Maps ``(B, ...)`` to ``(B, n_components)``.

    standardizer : Standardizer, default=None
        None takes inputs as they are.

    normalize : bool, default=True
        Whether to divide each output by its Euclidean norm.

    precision : {"float32", "bfloat16"}, default="float32"
        Of the body: ``"bfloat16"`` is torch's autocast. Inputs are standardized and
        outputs normalized in float32.
    """

    def __init__(
        self,
        body: nn.Module,
        *,
        standardizer: Standardizer | None = None,
        normalize: bool = True,
        precision: str = "float32",
    ):
        super().__init__()
        self.body = body
        self.standardizer = standardizer
        self.normalize = normalize
        self.precision = precision

    def forward(self, X: Tensor) -> Tensor:  # noqa: D102
        if self.standardizer is not None:
            X = self.standardizer(X)
        if self.precision == "bfloat16":
            with torch.autocast(X.device.type, torch.bfloat16):
                embeddings = self.body(X).float()
        else:
            embeddings = self.body(X)
        return F.normalize(embeddings, dim=1) if self.normalize else embeddings


def _in_full_precision(layer: nn.Module, X: Tensor) -> Tensor:
    """Apply a layer outside of autocast: its outputs are compared to the last digits."""
    if not torch.is_autocast_enabled(X.device.type):
        return layer(X)
    with torch.autocast(X.device.type, enabled=False):
        return layer(X.float())
