"""Convolutional network for sequences."""

import torch
from torch import Tensor, nn

from sktriplet.networks._convnet import ResidualBlock
from sktriplet.networks._precision import DTYPE, in_full_precision

# Sequences with at least this many time steps are halved by the first convolution.
LARGE_LENGTH = 128

# Stages are added until this many time steps, at most, remain.
MAX_FINAL_LENGTH = 16

# Channels of the first convolution, and the most of a later one.
FIRST_WIDTH, MAX_WIDTH = 32, 128

# Lengths of the first kernel and the later ones.
FIRST_KERNEL, KERNEL = 7, 5


class ConvNet1d(nn.Module):
    """Small residual network for sequences of about 10 to 1000 time steps.

    A convolution of 7 time steps is followed by stages. Each stage halves the length, doubles
    the number of channels (32 at first, 128 at most) and ends in a residual block of convolutions
    of 5 time steps [1]_. There is at least one stage, and as many as needed until at most 16 time
    steps remain. The output layer is linear in the means and the maxima over those, which
    makes the network insensitive to when a pattern occurs [2]_. It is computed in float32 even
    under autocast. The first convolution halves sequences of 128 time steps or more.

    Parameters
    ----------
    input_shape : tuple of int
        Shape of a sequence, ``(n_channels, length)``.
    n_components : int
        Number of output features.
    generator : torch.Generator, default=None
        Random number generator for the initial weights. By default, torch's global generator is
        used.

    Raises
    ------
    ValueError
        If ``input_shape`` is not the shape of a sequence.

    See Also
    --------
    ConvNet : The network for images.

    References
    ----------
    .. [1] He, Zhang, Ren and Sun, "Deep Residual Learning for Image Recognition", CVPR
       2016.
    .. [2] Wang, Yan and Oates, "Time Series Classification from Scratch with Deep Neural
       Networks: A Strong Baseline", IJCNN 2017, which takes the means.

    Examples
    --------
    >>> import torch
    >>> from sktriplet.networks import ConvNet1d
    >>> ConvNet1d((3, 100), 2)(torch.zeros(5, 3, 100)).shape
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
        if len(input_shape) != 2:
            raise ValueError(f"input_shape must be (n_channels, length). Got {tuple(input_shape)}.")
        n_channels, length = input_shape
        stride, width = 2 if length >= LARGE_LENGTH else 1, FIRST_WIDTH
        stages = [_convolution(n_channels, width, FIRST_KERNEL, stride)]
        length = -(-length // stride)
        while length > MAX_FINAL_LENGTH or len(stages) == 1:
            next_width = min(2 * width, MAX_WIDTH)
            block = ResidualBlock(
                _convolution(next_width, next_width),
                nn.Conv1d(
                    next_width, next_width, KERNEL, padding=KERNEL // 2, bias=False, dtype=DTYPE
                ),
                nn.BatchNorm1d(next_width, dtype=DTYPE),
            )
            stages.append(nn.Sequential(_convolution(width, next_width, stride=2), block))
            length, width = -(-length // 2), next_width
        self.stages = nn.Sequential(*stages)
        self.head = nn.Linear(2 * width, n_components, dtype=DTYPE)
        for layer in self.modules():
            if isinstance(layer, nn.Conv1d):
                nn.init.kaiming_normal_(layer.weight, nonlinearity="relu", generator=generator)
        bound = self.head.in_features**-0.5
        nn.init.uniform_(self.head.weight, -bound, bound, generator=generator)
        nn.init.zeros_(self.head.bias)

    def forward(self, X: Tensor) -> Tensor:
        """Compute the embeddings of a batch.

        Parameters
        ----------
        X : Tensor of shape (n_samples, n_channels, length)
            Batch of sequences.

        Returns
        -------
        embeddings : Tensor of shape (n_samples, n_components)
            Embeddings of the sequences, not normalized.
        """
        steps = self.stages(X)
        return in_full_precision(self.head, torch.cat([steps.mean(dim=2), steps.amax(dim=2)], 1))


def _convolution(
    n_channels: int, width: int, kernel: int = KERNEL, stride: int = 1
) -> nn.Sequential:
    """Return a convolution with batch normalization and ReLU."""
    return nn.Sequential(
        nn.Conv1d(n_channels, width, kernel, stride, padding=kernel // 2, bias=False, dtype=DTYPE),
        nn.BatchNorm1d(width, dtype=DTYPE),
        nn.ReLU(inplace=True),
    )
