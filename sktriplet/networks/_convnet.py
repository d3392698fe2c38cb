"""The networks, and what stands before and behind them."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sktriplet.networks._precision import in_full_precision

# Of `ConvNet`: images are halved until their shorter side is no longer than the last side;
# channels double from the first width to the last.
SMALLEST_SIDE, LARGE_SIDE, LAST_SIDE = 4, 48, 7


FIRST_WIDTH, LAST_WIDTH = 32, 256


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
