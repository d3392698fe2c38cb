"""Convolutional network for small images."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sktriplet.networks._precision import DTYPE, in_full_precision

# Shortest side, in pixels, of supported images.
MIN_SIDE = 4

# Images whose shorter side has at least this many pixels are halved by the first convolution.
LARGE_SIDE = 48

# Stages are added until the shorter side has at most this many pixels.
MAX_FINAL_SIDE = 7

# Channels of the first convolution, and the most of a later one.
FIRST_WIDTH, MAX_WIDTH = 32, 256


class ConvNet(nn.Module):
    """Small residual network for images of about 8 to 96 pixels per side.

    A 3 x 3 convolution is followed by stages. Each stage halves the image, doubles the number
    of channels (32 at first, 256 at most) and ends in a residual block [1]_. There is at least
    one stage, and as many as needed until the shorter side has at most 7 pixels. The output
    layer is linear in all remaining pixels: unlike a mean over the pixels, it can exploit
    absolute position, and it learns faster. It is computed in float32 even under autocast. If
    the shorter side has 48 pixels or more, the first convolution halves the image too, which
    makes large images as fast as small ones.

    Parameters
    ----------
    input_shape : tuple of int
        Shape of an image, ``(n_channels, height, width)``, with sides of at least 4 pixels.
    n_components : int
        Number of output features.
    generator : torch.Generator, default=None
        Random number generator for the initial weights. By default, torch's global generator is
        used.

    Raises
    ------
    ValueError
        If ``input_shape`` is not the shape of an image or a side is too short.

    References
    ----------
    .. [1] He, Zhang, Ren and Sun, "Deep Residual Learning for Image Recognition", CVPR
       2016.

    Examples
    --------
    >>> import torch
    >>> from sktriplet.networks import ConvNet
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
        if len(input_shape) != 3 or min(input_shape[1:]) < MIN_SIDE:
            raise ValueError(
                "input_shape must be (n_channels, height, width) with sides of at least "
                f"{MIN_SIDE} pixels; (n_channels, length) is for sequences. Got "
                f"{tuple(input_shape)}."
            )
        n_channels, width = input_shape[0], FIRST_WIDTH
        stride = 2 if min(input_shape[1:]) >= LARGE_SIDE else 1
        stages = [_convolution(n_channels, width, stride)]
        sides = [-(-side // stride) for side in input_shape[1:]]
        while min(sides) > MAX_FINAL_SIDE or len(stages) == 1:
            next_width = min(2 * width, MAX_WIDTH)
            block = ResidualBlock(
                _convolution(next_width, next_width),
                nn.Conv2d(next_width, next_width, 3, padding=1, bias=False, dtype=DTYPE),
                nn.BatchNorm2d(next_width, dtype=DTYPE),
            )
            stages.append(nn.Sequential(_convolution(width, next_width, 2), block))
            sides, width = [-(-side // 2) for side in sides], next_width
        self.stages = nn.Sequential(*stages)
        self.head = nn.Linear(width * sides[0] * sides[1], n_components, dtype=DTYPE)
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, nonlinearity="relu", generator=generator)
        bound = self.head.in_features**-0.5
        nn.init.uniform_(self.head.weight, -bound, bound, generator=generator)
        nn.init.zeros_(self.head.bias)

    def forward(self, X: Tensor) -> Tensor:
        """Compute the embeddings of a batch.

        Parameters
        ----------
        X : Tensor of shape (n_samples, n_channels, height, width)
            Batch of images.

        Returns
        -------
        embeddings : Tensor of shape (n_samples, n_components)
            Embeddings of the images, not normalized.
        """
        # The memory format in which convolutions are fastest, on both CPUs and GPUs.
        pixels = self.stages(X.contiguous(memory_format=torch.channels_last))
        # Flattened in memory order, which copies neither the pixels nor their gradients.
        return in_full_precision(self.head, pixels.movedim(1, -1).flatten(1))


class ResidualBlock(nn.Module):
    """Residual block ``relu(X + f(X))``, where f is a sequence of layers and initially zero.

    Parameters
    ----------
    *layers : nn.Module
        Layers that keep the shape of a batch. The last one is a batch normalization.
    """

    def __init__(self, *layers: nn.Module):
        super().__init__()
        self.layers = nn.Sequential(*layers)
        nn.init.zeros_(layers[-1].weight)  # type: ignore[arg-type]

    def forward(self, X: Tensor) -> Tensor:
        """Return a batch of the same shape."""
        # In place, because no gradient needs the outputs of batch normalization.
        return F.relu_(self.layers(X).add_(X))


def _convolution(n_channels: int, width: int, stride: int = 1) -> nn.Sequential:
    """Return a 3 x 3 convolution with batch normalization and ReLU."""
    return nn.Sequential(
        nn.Conv2d(n_channels, width, 3, stride, padding=1, bias=False, dtype=DTYPE),
        nn.BatchNorm2d(width, dtype=DTYPE),
        nn.ReLU(inplace=True),
    )
