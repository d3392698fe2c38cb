"""The networks, and what stands before and behind them."""

from collections.abc import Callable, Sequence

import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn
from torch.nn import functional as F

# Of `ConvNet`: images are halved until their shorter side is no longer than the last side;
# channels double from the first width to the last.
SMALLEST_SIDE, LARGE_SIDE, LAST_SIDE = 4, 48, 7
FIRST_WIDTH, LAST_WIDTH = 32, 256


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
        return in_full_precision(self.head, self.layers(X))


class ConvNet(nn.Module):
    """A small residual network, for images of some 8 to 96 pixels a side.

    A convolution of 3 x 3 pixels is followed by stages. Each halves the image, doubles the
    width and ends in a residual block [1]_; there are as many as it takes to get the
    shorter side to 7 pixels or fewer. A linear layer takes what is left, pixel by pixel:
    it may look for a thing at its place, and learns faster than from a mean over the
    pixels. Images with sides of 48 and more are halved once before, so that they cost no
    more than small ones.

    Parameters
    ----------
    input_shape : tuple of int
        ``(n_channels, height, width)``, with sides of 4 and more.

    n_components : int
        Width of the output.

    generator : torch.Generator, default=None
        Source of the initial weights. None is torch's global generator.

    Raises
    ------
    ValueError
        If ``input_shape`` is not that of images, or they are too small.

    References
    ----------
    .. [1] He, Zhang, Ren and Sun, "Deep Residual Learning for Image Recognition", CVPR
       2016.

    Examples
    --------
    >>> import torch
    >>> from sktriplet.modules import ConvNet
    >>> ConvNet((3, 32, 32), 2)(torch.zeros(5, 3, 32, 32)).shape
    torch.Size([5, 2])
    """

    def __init__(
        self,
        input_shape: tuple[int, ...],
        n_components: int,
        *,
        generator: torch.Generator | None = None,
    ):
        super().__init__()
        if len(input_shape) != 3 or min(input_shape[1:]) < SMALLEST_SIDE:
            raise ValueError(
                "input_shape must be (n_channels, height, width) with sides of at least "
                f"{SMALLEST_SIDE} pixels. Got {tuple(input_shape)}."
            )
        n_channels, width = input_shape[0], FIRST_WIDTH
        stride = 2 if min(input_shape[1:]) >= LARGE_SIDE else 1
        stages = [_convolution(n_channels, width, stride)]
        sides = [-(-side // stride) for side in input_shape[1:]]
        while min(sides) > LAST_SIDE or len(stages) == 1:
            wider = min(2 * width, LAST_WIDTH)
            stages.append(nn.Sequential(_convolution(width, wider, 2), ResidualBlock(wider)))
            sides, width = [-(-side // 2) for side in sides], wider
        self.stages = nn.Sequential(*stages)
        self.head = nn.Linear(width * sides[0] * sides[1], n_components)
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, nonlinearity="relu", generator=generator)
        bound = self.head.in_features**-0.5
        nn.init.uniform_(self.head.weight, -bound, bound, generator=generator)
        nn.init.zeros_(self.head.bias)

    def forward(self, X: Tensor) -> Tensor:  # noqa: D102
        # The layout in which convolutions are fastest, on CPUs and GPUs alike.
        pixels = self.stages(X.contiguous(memory_format=torch.channels_last))
        # In the order in which they lie in memory, so that neither they nor their gradients
        # are copied into another.
        return in_full_precision(self.head, pixels.movedim(1, -1).flatten(1))


class ResidualBlock(nn.Module):
    """``relu(X + f(X))``, where f is two convolutions and zero before training.

    Parameters
    ----------
    width : int
        Channels that come in, and go out.
    """

    def __init__(self, width: int):
        super().__init__()
        last = nn.BatchNorm2d(width)
        nn.init.zeros_(last.weight)
        self.layers = nn.Sequential(
            _convolution(width, width),
            nn.Conv2d(width, width, 3, padding=1, bias=False),
            last,
        )

    def forward(self, X: Tensor) -> Tensor:  # noqa: D102
        # In place, as no gradient needs the outputs of batch normalisation.
        return F.relu_(self.layers(X).add_(X))


def _convolution(n_channels: int, width: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(n_channels, width, 3, stride, padding=1, bias=False),
        nn.BatchNorm2d(width),
        nn.ReLU(inplace=True),
    )


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
        Whether to divide each output by its Euclidean norm, or where the body has members, each
        member's part by that of the part.

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
        self.n_members: int = getattr(body, "n_members", 1)

    def forward(self, X: Tensor) -> Tensor:  # noqa: D102
        X = self.arranged(X)
        if self.augment is not None and self.training:
            X = self.augment(X)
        embeddings = self.outputs(X)
        if self.precision == "bfloat16":
            embeddings = embeddings.float()
        if not self.normalize:
            return embeddings
        parts = embeddings.tensor_split(self.n_members, dim=1)
        return torch.cat([F.normalize(part, dim=1) for part in parts], 1) / self.n_members**0.5

    def arranged(self, X: Tensor) -> Tensor:
        """Return images with their channels first, and tables as they are."""
        return X if self.layout is None else self.layout(X)

    def outputs(self, X: Tensor) -> Tensor:
        """Return what the body makes of an arranged batch, before it is normalized."""
        X = X.float() if self.standardizer is None else self.standardizer(X)
        if self.precision == "bfloat16":
            with torch.autocast(X.device.type, torch.bfloat16):
                return self.body(X)
        return self.body(X)


def in_full_precision(layer: nn.Module, X: Tensor) -> Tensor:
    """Apply a layer outside of autocast: its outputs are compared to the last digits."""
    if not torch.is_autocast_enabled(X.device.type):
        return layer(X)
    with torch.autocast(X.device.type, enabled=False):
        return layer(X.float())
