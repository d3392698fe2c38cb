"""Ensemble of multilayer perceptrons, the default network for tables, and its layers.

Inside the ensemble, batches have shape (n_members, n_features, B). With the samples in the last
dimension, batch normalization can treat the features of all members as channels.
"""

import math
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn
from torch.nn import functional as F

from sktriplet.networks._precision import DTYPE, in_full_precision

# Frequencies per feature, and the standard deviation of their initial values.
N_FREQUENCIES, FREQUENCY_STD = 8, 0.3


class MLPEnsemble(nn.Module):
    """Ensemble of multilayer perceptrons, each computing a part of the embedding, for tables.

    Networks with different initial weights make different errors; combining them reduces the
    error. All members are evaluated together by batched matrix products [1]_. Half of the
    members get periodic features of the continuous features in addition to the features
    themselves [2]_, and learn fine structure in a feature sooner.

    Each hidden layer is a linear layer followed by batch normalization and ReLU. The output
    layer is linear, and is computed in float32 even under autocast.

    Parameters
    ----------
    input_shape : tuple of int
        Shape of a sample, ``(n_features,)``.
    n_components : int
        Number of output features. They are divided equally among the members; if
        ``n_components`` is not a multiple of ``n_members``, the first members compute one more.
    hidden_layer_sizes : sequence of int, default=(256, 128)
        Number of units in each hidden layer of a member, for at least one layer.
    n_members : int, default=4
        Number of members, at most ``n_components``.
    n_periodic : int, default=None
        Number of members with periodic features. By default, half of the members, rounded down.
    is_continuous : array-like of bool of shape (n_features,), default=None
        Mask of the features from which periodic features are computed. By default, all.
    generator : torch.Generator, default=None
        Random number generator for the initial weights. By default, torch's global generator is
        used.

    Attributes
    ----------
    n_members : int
        Number of members.

    Raises
    ------
    ValueError
        If there are no hidden layers, or a number of members is out of range.

    See Also
    --------
    MLP : A single multilayer perceptron.

    References
    ----------
    .. [1] Gorishniy, Kotelnikov and Babenko, "TabM: Advancing Tabular Deep Learning with
       Parameter-Efficient Ensembling", ICLR 2025. There, members share weights; here, they do
       not.
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
        if n_periodic is None:
            n_periodic = n_members // 2
        if len(hidden_layer_sizes) == 0:
            raise ValueError("hidden_layer_sizes must have at least one element. Got none.")
        if not 1 <= n_members <= n_components:
            raise ValueError(
                f"n_members must be between 1 and n_components={n_components}. Got {n_members}."
            )
        if not 0 <= n_periodic <= n_members:
            raise ValueError(
                f"n_periodic must be between 0 and n_members={n_members}. Got {n_periodic}."
            )
        self.n_members = n_members
        self.n_plain = n_members - n_periodic
        self.widths = [len(part) for part in np.array_split(range(n_components), n_members)]
        self.plain = self.periodic = None
        if self.n_plain:
            self.plain = _hidden_layers(
                self.n_plain, n_features, hidden_layer_sizes, generator=generator
            )
        if n_periodic:
            features = PeriodicFeatures(n_periodic, n_features, is_continuous, generator=generator)
            self.periodic = _hidden_layers(
                n_periodic, n_features, hidden_layer_sizes, features, generator=generator
            )
        self.head = EnsembleLinear(
            n_members, hidden_layer_sizes[-1], self.widths[0], generator=generator
        )

    def hidden(self, X: Tensor) -> Tensor:
        """Compute the activations of the last hidden layer of all members.

        Parameters
        ----------
        X : Tensor of shape (n_samples, n_features)
            Batch of samples.

        Returns
        -------
        activations : Tensor of shape (n_members, hidden_layer_sizes[-1], n_samples)
            Activations, with the samples in the last dimension.
        """
        X = X.T  # (n_features, B)
        hidden = []
        if self.plain is not None:
            hidden.append(self.plain(X.expand(self.n_plain, -1, -1)))
        if self.periodic is not None:
            hidden.append(self.periodic(X))
        return torch.cat(hidden)

    def forward(self, X: Tensor) -> Tensor:
        """Compute the embeddings of a batch.

        Parameters
        ----------
        X : Tensor of shape (n_samples, n_features)
            Batch of samples.

        Returns
        -------
        embeddings : Tensor of shape (n_samples, n_components)
            Embeddings of the samples, not normalized: the parts computed by the members, in
            order.
        """
        # (B, n_members, width)
        output = in_full_precision(self.head, self.hidden(X)).permute(2, 0, 1)
        if self.widths[-1] == self.widths[0]:
            return output.flatten(1)
        parts = [output[:, member, :width] for member, width in enumerate(self.widths)]
        return torch.cat(parts, dim=1)


class EnsembleLinear(nn.Module):
    """One linear layer per member.

    Maps (n_members, n_inputs + n_zero_init, B) to (n_members, n_outputs, B).

    Parameters
    ----------
    n_members : int
        Number of members.
    n_inputs : int
        Number of input features with random initial weights.
    n_outputs : int
        Number of output features.
    n_zero_init : int, default=0
        Number of additional input features, after the others, with zero initial weights.
    generator : torch.Generator, default=None
        Random number generator for the initial weights. By default, torch's global generator is
        used.
    """

    def __init__(
        self,
        n_members: int,
        n_inputs: int,
        n_outputs: int,
        n_zero_init: int = 0,
        *,
        generator: torch.Generator | None = None,
    ):
        super().__init__()
        bound = n_inputs**-0.5
        weight = torch.empty(n_members, n_outputs, n_inputs, dtype=DTYPE)
        nn.init.uniform_(weight, -bound, bound, generator=generator)
        self.weight = nn.Parameter(F.pad(weight, (0, n_zero_init)))
        self.bias = nn.Parameter(torch.zeros(n_members, n_outputs, 1, dtype=DTYPE))

    def forward(self, X: Tensor) -> Tensor:
        """Return the outputs of all members, (n_members, n_outputs, B)."""
        return torch.baddbmm(self.bias, self.weight, X)


class EnsembleBatchNorm1d(nn.BatchNorm1d):
    """Batch normalization per member and feature of a batch (n_members, n_features, B).

    Parameters
    ----------
    num_features : int
        Number of features of all members together, ``n_members * n_features``.
    """

    def forward(self, X: Tensor) -> Tensor:
        """Return a batch of the same shape."""
        return super().forward(X.reshape(1, -1, X.shape[2])).view(X.shape)


class PeriodicFeatures(nn.Module):
    r"""Append periodic features :math:`\cos(2 \pi c x + b)` to the features x.

    Frequencies c and phases b are learned, for each member and feature separately. Maps
    (n_features, B) to (n_members, n_features + n_outputs, B).

    Parameters
    ----------
    n_members : int
        Number of members.
    n_features : int
        Number of features.
    is_continuous : array-like of bool of shape (n_features,), default=None
        Mask of the features that have periodic features; those of the others are zero. By
        default, all.
    generator : torch.Generator, default=None
        Random number generator for the initial frequencies and phases. By default, torch's
        global generator is used.

    Attributes
    ----------
    n_outputs : int
        Number of periodic features per member.
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
        self.n_outputs = n_features * N_FREQUENCIES
        if is_continuous is None:
            is_continuous = np.ones(n_features)
        mask = torch.as_tensor(is_continuous, dtype=DTYPE).view(-1, 1, 1)
        self.register_buffer("is_continuous", mask)
        frequency, phase = torch.empty(2, n_members, n_features, N_FREQUENCIES, 1, dtype=DTYPE)
        nn.init.normal_(frequency, std=FREQUENCY_STD, generator=generator)
        nn.init.uniform_(phase, -math.pi, math.pi, generator=generator)
        self.frequency, self.phase = nn.Parameter(frequency), nn.Parameter(phase)

    def forward(self, X: Tensor) -> Tensor:
        """Return the features of all members, (n_members, n_features + n_outputs, B)."""
        # (n_members, n_features, N_FREQUENCIES, B)
        periodic = torch.cos(2 * math.pi * self.frequency * X[:, None] + self.phase)
        periodic = (periodic * self.is_continuous).flatten(1, 2)
        return torch.cat([X.expand(len(periodic), -1, -1), periodic], dim=1)


def _hidden_layers(
    n_members: int,
    n_features: int,
    sizes: Sequence[int],
    periodic: PeriodicFeatures | None = None,
    *,
    generator: torch.Generator | None,
) -> nn.Sequential:
    """Return the hidden layers of some members.

    They map (n_features, B) to (n_members, sizes[-1], B) with periodic features, and
    (n_members, n_features, B) to the same without.
    """
    layers: list[nn.Module] = [] if periodic is None else [periodic]
    # Periodic features have no effect before training: they start with zero weights.
    n_zero_init = 0 if periodic is None else periodic.n_outputs
    width = n_features
    for size in sizes:
        layers.append(EnsembleLinear(n_members, width, size, n_zero_init, generator=generator))
        layers += [EnsembleBatchNorm1d(n_members * size, dtype=DTYPE), nn.ReLU()]
        n_zero_init, width = 0, size
    return nn.Sequential(*layers)
