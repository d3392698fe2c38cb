"""Ensemble of multilayer perceptrons, the default network for tables, and its layers.

Inside the ensemble, batches have shape (n_members, n_features, B). With the samples in the last
dimension, batch normalization can treat the features of all members as channels.
"""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn

from sktriplet.networks._precision import DTYPE, in_full_precision


class MLPEnsemble(nn.Module):
    """Ensemble of multilayer perceptrons, each computing a part of the embedding, for tables.

    Networks with different initial weights make different errors; combining them reduces the
    error. All members are evaluated together by batched matrix products [1]_. Given bins, half
    of the members get a piecewise-linear encoding of the features instead of the features [2]_:
    they learn fine structure in a feature sooner, and outliers have less influence on them.

    Each hidden layer is a linear layer followed by batch normalization and ReLU. The output
    layer is linear. A skip connection adds a linear map of the features, whose initial weights
    are orthogonal [3]_: distances in the embedding resemble those between samples, which
    training then changes. This preserves what tells classes apart that are not in the training
    data. Output layer and skip connection are computed in float32 even under autocast.

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
    bin_edges : array-like of shape (n_features, n_bins + 1), default=None
        Ascending edges of the bins of each feature; see :class:`PiecewiseLinearEncoding`. By
        default, all members get the features.
    n_binary : int, default=0
        Number of features that have two values; they come last. Only their first bin is used,
        because the others would be constant. Initial weights are as small as with all bins.
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
        If there are no hidden layers, or the number of members is out of range.

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
    .. [3] Saxe, McClelland and Ganguli, "Exact Solutions to the Nonlinear Dynamics of Learning in
       Deep Linear Neural Networks", ICLR 2014.

    Examples
    --------
    >>> import torch
    >>> from sktriplet.networks import MLPEnsemble
    >>> MLPEnsemble((4,), 6, n_members=3)(torch.zeros(5, 4)).shape
    torch.Size([5, 6])
    """

    members_are_independent = True

    def __init__(
        self,
        input_shape: tuple[int, ...],
        n_components: int,
        hidden_layer_sizes: Sequence[int] = (256, 128),
        *,
        n_members: int = 4,
        bin_edges: ArrayLike | None = None,
        n_binary: int = 0,
        generator: torch.Generator | None = None,
    ):
        super().__init__()
        (n_features,) = input_shape
        if len(hidden_layer_sizes) == 0:
            raise ValueError("hidden_layer_sizes must have at least one element. Got none.")
        if not 1 <= n_members <= n_components:
            raise ValueError(
                f"n_members must be between 1 and n_components={n_components}. Got {n_members}."
            )
        self.n_members = n_members
        self.widths = [len(part) for part in np.array_split(range(n_components), n_members)]
        self.encoding = None
        if bin_edges is not None:
            self.encoding = PiecewiseLinearEncoding(bin_edges, n_binary)
        n_encoded = 0 if self.encoding is None else n_members // 2
        self.n_plain = n_members - n_encoded
        self.plain = _hidden_layers(
            self.n_plain, n_features, hidden_layer_sizes, generator=generator
        )
        self.encoded = None
        if self.encoding is not None and n_encoded:
            self.encoded = _hidden_layers(
                n_encoded,
                self.encoding.n_outputs,
                hidden_layer_sizes,
                fan_in=self.encoding.n_bins,
                generator=generator,
            )
        self.head = EnsembleLinear(
            n_members, hidden_layer_sizes[-1], self.widths[0], generator=generator
        )
        # One layer for all members, whose maps are orthogonal to each other.
        n_outputs = n_members * self.widths[0]
        # Without nn.Linear's own initial weights, which would be drawn from the global generator.
        self.skip = nn.utils.skip_init(nn.Linear, n_features, n_outputs, bias=False, dtype=DTYPE)
        nn.init.orthogonal_(self.skip.weight, generator=generator)

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
        hidden = self.plain(X.expand(self.n_plain, -1, -1))
        if self.encoding is None or self.encoded is None:
            return hidden
        n_encoded = self.n_members - self.n_plain
        encoded = self.encoded(self.encoding(X).expand(n_encoded, -1, -1))
        return torch.cat([hidden, encoded])

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
        output = output + in_full_precision(self.skip, X).view(output.shape)
        if self.widths[-1] == self.widths[0]:
            return output.flatten(1)
        parts = [output[:, member, :width] for member, width in enumerate(self.widths)]
        return torch.cat(parts, dim=1)


class EnsembleLinear(nn.Module):
    """One linear layer per member.

    Maps (n_members, n_inputs, B) to (n_members, n_outputs, B).

    Parameters
    ----------
    n_members : int
        Number of members.
    n_inputs : int
        Number of input features.
    n_outputs : int
        Number of output features.
    fan_in : int, default=None
        Number of inputs that determines the scale of the initial weights. By default, `n_inputs`.
    generator : torch.Generator, default=None
        Random number generator for the initial weights. By default, torch's global generator is
        used.
    """

    def __init__(
        self,
        n_members: int,
        n_inputs: int,
        n_outputs: int,
        *,
        fan_in: int | None = None,
        generator: torch.Generator | None = None,
    ):
        super().__init__()
        bound = (fan_in or n_inputs) ** -0.5
        weight = torch.empty(n_members, n_outputs, n_inputs, dtype=DTYPE)
        nn.init.uniform_(weight, -bound, bound, generator=generator)
        self.weight = nn.Parameter(weight)
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


class PiecewiseLinearEncoding(nn.Module):
    r"""Encode the position of each feature in each of its bins.

    A feature x is encoded by :math:`2 \min(\max((x - e_{t-1}) / (e_t - e_{t-1}), 0), 1) - 1` for
    its bins :math:`t = 1, \dots, n`: -1 up to the lower edge of a bin, 1 from its upper edge on,
    and linear between them [1]_. Maps (n_features, B) to (n_outputs, B).

    Parameters
    ----------
    bin_edges : array-like of shape (n_features, n_bins + 1)
        Ascending edges of the bins, for example quantiles of each feature. Bins with equal edges
        have a constant encoding.
    n_binary : int, default=0
        Number of features that are encoded by their first bin only; they come last.

    Attributes
    ----------
    n_bins : int
        Number of bins of all features, including those of binary features that are not encoded.
    n_outputs : int
        Number of outputs: one per encoded bin.

    References
    ----------
    .. [1] Gorishniy, Rubachev and Babenko, "On Embeddings for Numerical Features in Tabular Deep
       Learning", NeurIPS 2022.
    """

    bin_edges: Tensor

    def __init__(self, bin_edges: ArrayLike, n_binary: int = 0):
        super().__init__()
        edges = torch.as_tensor(np.asarray(bin_edges), dtype=DTYPE)
        self.register_buffer("bin_edges", edges)
        self.n_binned = len(edges) - n_binary
        self.n_bins = len(edges) * (edges.shape[1] - 1)
        self.n_outputs = self.n_binned * (edges.shape[1] - 1) + n_binary

    def forward(self, X: Tensor) -> Tensor:
        """Return the encoding, (n_outputs, B)."""
        binned, binary = slice(self.n_binned), slice(self.n_binned, None)
        encoded = self._encode(X[binned], self.bin_edges[binned])
        if self.n_binned == len(X):
            return encoded
        return torch.cat([encoded, self._encode(X[binary], self.bin_edges[binary, :2])])

    def _encode(self, X: Tensor, bin_edges: Tensor) -> Tensor:
        lower = bin_edges[:, :-1, None]
        width = bin_edges[:, 1:, None] - lower
        # (n_features, n_bins, B)
        is_empty = width < torch.finfo(width.dtype).tiny  # The reciprocal would overflow.
        position = (X[:, None] - lower) * width.reciprocal().masked_fill(is_empty, 0)
        return (2 * position.clamp(0, 1) - 1).flatten(0, 1)


def _hidden_layers(
    n_members: int,
    n_inputs: int,
    sizes: Sequence[int],
    *,
    fan_in: int | None = None,
    generator: torch.Generator | None,
) -> nn.Sequential:
    """Return the hidden layers of some members, the first with initial weights for `fan_in`.

    They map (n_members, n_inputs, B) to (n_members, sizes[-1], B).
    """
    layers: list[nn.Module] = []
    for size in sizes:
        layers.append(EnsembleLinear(n_members, n_inputs, size, fan_in=fan_in, generator=generator))
        fan_in = None
        layers += [EnsembleBatchNorm1d(n_members * size, dtype=DTYPE), nn.ReLU()]
        n_inputs = size
    return nn.Sequential(*layers)
