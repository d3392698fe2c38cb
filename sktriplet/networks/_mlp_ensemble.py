"""Small networks side by side: the default for tables, and its layers."""

import math
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn
from torch.nn import functional as F

from sktriplet.networks._precision import in_full_precision

# Of `PeriodicFeatures`: waves of a column, and their frequencies' standard deviation.
N_WAVES, WAVE_SCALE = 8, 0.3


class MLPEnsemble(nn.Module):
    """Multilayer perceptrons side by side, each giving a part of the output, for tables.

    Networks that begin with other weights err in other places, and what they give together is
    nearer to the truth than what one of them gives. The products of all members are done at once
    [1]_. Half of the members see waves of each continuous column beside the column itself [2]_, and
    so learn sooner what is narrow in it.

    Parameters
    ----------
    input_shape : tuple of int
        ``(n_features,)``.

    n_components : int
        Width of the output. Each member gives an equal part of it, the first ones a column more
        where it cannot be divided.

    hidden_layer_sizes : sequence of int, default=(256, 128)
        Of each member; at least one.

    n_members : int, default=4

    n_periodic : int, default=None
        Members that see waves; None is half of them.

    is_continuous : array-like of bool of shape (n_features,), default=None
        Columns of which waves are seen; None is all.

    generator : torch.Generator, default=None
        Source of the initial weights. None is torch's global generator.

    References
    ----------
    .. [1] Gorishniy, Kotelnikov and Babenko, "TabM: Advancing Tabular Deep Learning with
       Parameter-Efficient Ensembling", ICLR 2025. There members share weights; here they do not.
    .. [2] Gorishniy, Rubachev and Babenko, "On Embeddings for Numerical Features in Tabular Deep
       Learning", NeurIPS 2022.

    Examples
    --------
    >>> import torch
    >>> from sktriplet.networks import MLPEnsemble
    >>> MLPEnsemble((4,), 6, n_members=3)(torch.zeros(5, 4)).shape
    torch.Size([5, 6])
    """

    def __init__(
        self,
        input_shape: tuple[int, ...],
        n_components: int,
        hidden_layer_sizes: Sequence[int] = (256, 128),
        *,
        n_members: int = 4,
        n_periodic: int | None = None,
        is_continuous: ArrayLike | None = None,
        generator: torch.Generator | None = None,
    ):
        super().__init__()
        (n_features,) = input_shape
        self.n_members = n_members
        self.widths = [len(part) for part in np.array_split(range(n_components), n_members)]
        if n_periodic is None:
            n_periodic = n_members // 2
        self.n_plain = n_members - n_periodic
        self.plain = _hidden_layers(
            self.n_plain, n_features, hidden_layer_sizes, generator=generator
        )
        self.periodic = None
        if n_periodic:
            waves = PeriodicFeatures(n_periodic, n_features, is_continuous, generator=generator)
            self.periodic = _hidden_layers(
                n_periodic, n_features, hidden_layer_sizes, waves, generator=generator
            )
        self.head = MemberLinear(
            n_members, hidden_layer_sizes[-1], self.widths[0], generator=generator
        )

    def hidden(self, X: Tensor) -> Tensor:
        """Return what each member's last hidden layer says.

        Parameters
        ----------
        X : Tensor of shape (B, n_features)

        Returns
        -------
        Tensor of shape (n_members, hidden_layer_sizes[-1], B)
        """
        columns = X.T  # (n_features, B): rows come last
        plain = self.plain(columns.expand(self.n_plain, -1, -1))
        return plain if self.periodic is None else torch.cat([plain, self.periodic(columns)])

    def forward(self, X: Tensor) -> Tensor:  # noqa: D102
        # (B, n_members, width)
        output = in_full_precision(self.head, self.hidden(X)).permute(2, 0, 1)
        if self.widths[-1] == self.widths[0]:
            return output.flatten(1)
        parts = [output[:, member, :width] for member, width in enumerate(self.widths)]
        return torch.cat(parts, dim=1)


class MemberLinear(nn.Module):
    """A linear layer for each member.

    Parameters
    ----------
    n_members, n_inputs, n_outputs : int
        Maps ``(n_members, n_inputs, B)`` to ``(n_members, n_outputs, B)``. Rows come last, so
        that batch normalisation can take members and features together for channels.

    n_further : int, default=0
        Further inputs behind these, whose weights are zero before training.

    generator : torch.Generator, default=None
        Source of the initial weights. None is torch's global generator.
    """

    def __init__(
        self,
        n_members: int,
        n_inputs: int,
        n_outputs: int,
        n_further: int = 0,
        *,
        generator: torch.Generator | None = None,
    ):
        super().__init__()
        bound = n_inputs**-0.5
        weight = torch.empty(n_members, n_outputs, n_inputs)
        nn.init.uniform_(weight, -bound, bound, generator=generator)
        self.weight = nn.Parameter(F.pad(weight, (0, n_further)))
        self.bias = nn.Parameter(torch.zeros(n_members, n_outputs, 1))

    def forward(self, X: Tensor) -> Tensor:  # noqa: D102
        return torch.baddbmm(self.bias, self.weight, X)


class MemberBatchNorm(nn.BatchNorm1d):
    """Batch normalisation of ``(n_members, n_features, B)`` over the rows.

    Parameters
    ----------
    num_features : int
        Of all members together.
    """

    def forward(self, X: Tensor) -> Tensor:  # noqa: D102
        return super().forward(X.reshape(1, -1, X.shape[2])).view(X.shape)


class PeriodicFeatures(nn.Module):
    r"""Each column x, and behind them waves :math:`\cos(2 \pi c x + b)` of each.

    Frequencies c and phases b are trained as all else is.

    Parameters
    ----------
    n_members, n_features : int
        Maps ``(n_features, B)`` to ``(n_members, n_features + n_waves, B)``.

    is_continuous : array-like of bool of shape (n_features,), default=None
        Columns that have waves; those of others are zero. None is all.

    generator : torch.Generator, default=None
        Source of the initial frequencies and phases. None is torch's global generator.

    Attributes
    ----------
    n_waves : int
        Of all columns together.
    """

    is_continuous: Tensor

    def __init__(
        self,
        n_members: int,
        n_features: int,
        is_continuous: ArrayLike | None = None,
        *,
        generator: torch.Generator | None = None,
    ):
        super().__init__()
        self.n_waves = n_features * N_WAVES
        if is_continuous is None:
            is_continuous = np.ones(n_features)
        each = torch.as_tensor(is_continuous, dtype=torch.float32).view(-1, 1, 1)
        self.register_buffer("is_continuous", each)
        frequency, phase = torch.empty(2, n_members, n_features, N_WAVES, 1)
        nn.init.normal_(frequency, std=WAVE_SCALE, generator=generator)
        nn.init.uniform_(phase, -math.pi, math.pi, generator=generator)
        self.frequency, self.phase = nn.Parameter(frequency), nn.Parameter(phase)

    def forward(self, X: Tensor) -> Tensor:  # noqa: D102
        waves = torch.cos(2 * math.pi * self.frequency * X[:, None] + self.phase)
        waves = (waves * self.is_continuous).flatten(1, 2)
        return torch.cat([X.expand(len(waves), -1, -1), waves], dim=1)


def _hidden_layers(
    n_members: int,
    n_features: int,
    sizes: Sequence[int],
    waves: PeriodicFeatures | None = None,
    *,
    generator: torch.Generator | None,
) -> nn.Sequential:
    """Return layers from ``(n_features, B)`` to ``(n_members, sizes[-1], B)``."""
    layers: list[nn.Module] = [] if waves is None else [waves]
    n_waves, width = 0 if waves is None else waves.n_waves, n_features
    for size in sizes:
        layers.append(MemberLinear(n_members, width, size, n_waves, generator=generator))
        layers += [MemberBatchNorm(n_members * size), nn.ReLU()]
        n_waves, width = 0, size
    return nn.Sequential(*layers)
