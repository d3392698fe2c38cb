"""The networks, and what stands before and behind them."""

from collections.abc import Callable, Sequence

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
        self.layers = nn.Sequential(*layers)
        self.head = nn.Linear(width, n_components)
        for layer in [*layers, self.head]:
            if isinstance(layer, nn.Linear):
                bound = layer.in_features**-0.5
                nn.init.uniform_(layer.weight, -bound, bound, generator=generator)
                nn.init.zeros_(layer.bias)

    def forward(self, X: Tensor) -> Tensor:  # noqa: D102
        return _in_full_precision(self.head, self.layers(X))


class ConvNet(nn.Module):
    """Placeholder."""

    def __init__(
        self,
        input_shape: tuple[int, ...],
        n_components: int,
        *,
        generator: torch.Generator | None = None,
    ):
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(input_shape[0], 8, 3, padding=1), nn.ReLU())
        self.head = nn.Linear(8, n_components)
        for parameter in self.parameters():
            nn.init.normal_(parameter, std=0.3, generator=generator)

    def forward(self, X: Tensor) -> Tensor:  # noqa: D102
        return _in_full_precision(self.head, self.layers(X).mean(dim=(2, 3)))


class ChannelsFirst(nn.Module):
    """Images of any layout, put into the one that convolutions take.

    Parameters
    ----------
    shape : tuple of int
        ``(C, H, W)``. Batches may be ``(B, C, H, W)``, ``(B, H, W, C)``, ``(B, H, W)``
        if C is 1, or ``(B, C * H * W)``, and come out as the first.

    Examples
    --------
    >>> import torch
    >>> from sktriplet.modules import ChannelsFirst
    >>> ChannelsFirst((3, 8, 9))(torch.zeros(5, 8, 9, 3)).shape
    torch.Size([5, 3, 8, 9])
    """

    def __init__(self, shape: tuple[int, ...]):
        super().__init__()
        self.shape = tuple(shape)

    def forward(self, X: Tensor) -> Tensor:  # noqa: D102
        if X.ndim == 4 and X.shape[1:] != self.shape:
            return X.movedim(-1, 1)
        return X.reshape(len(X), *self.shape)


class Standardizer(nn.Module):
    """``(X - mean) / scale`` with the statistics of the training rows.

    Parameters
    ----------
    mean, scale : array-like
        Of a shape that goes with that of X.
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, mean: ArrayLike, scale: ArrayLike):
        super().__init__()
        self.register_buffer("mean", torch.as_tensor(mean, dtype=torch.float32))
        self.register_buffer("scale", torch.as_tensor(scale, dtype=torch.float32))

    def forward(self, X: Tensor) -> Tensor:  # noqa: D102
        return (X - self.mean) / self.scale


class EmbeddingNetwork(nn.Module):
    """A network, and what stands before and behind it.

    Parameters
    ----------
    body : nn.Module
        Maps ``(B, ...)`` to ``(B, n_components)``.

    layout : ChannelsFirst, default=None
        None takes inputs as they are.

    augment : callable, default=None
        Maps a batch in that layout to another. In training only.

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
        layout: ChannelsFirst | None = None,
        augment: Callable[[Tensor], Tensor] | None = None,
        standardizer: Standardizer | None = None,
        normalize: bool = True,
        precision: str = "float32",
    ):
        super().__init__()
        self.body = body
        self.layout = layout
        self.augment = augment
        self.standardizer = standardizer
        self.normalize = normalize
        self.precision = precision

    def forward(self, X: Tensor) -> Tensor:  # noqa: D102
        if self.layout is not None:
            X = self.layout(X)
        if self.augment is not None and self.training:
            X = self.augment(X)
        X = X.float() if self.standardizer is None else self.standardizer(X)
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
