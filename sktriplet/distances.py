"""Distances between all rows of a batch: ``(embeddings) -> (B, B)``, small means alike.

Each function is differentiable, has zeros on the diagonal and no negative entry, and
computes in float32 at least, also under autocast. A callable of the same signature is
accepted wherever a name is.
"""

from collections.abc import Callable
from functools import wraps
from typing import Any

import torch
from torch import Tensor

Distance = Callable[[Tensor], Tensor]


def _in_full_precision(distance: Distance) -> Distance:
    """Let `distance` see float32 or float64, and no autocast."""

    @wraps(distance)
    def full_precision(embeddings: Tensor) -> Tensor:
        dtype = torch.promote_types(embeddings.dtype, torch.float32)
        with torch.autocast(embeddings.device.type, enabled=False):
            return distance(embeddings.to(dtype))

    return full_precision


class _SquaredEuclidean(torch.autograd.Function):
    """Squared distances from one matrix product, and their gradient from two.

    Autograd would keep and walk a (B, B) matrix for every elementwise step.
    """

    @staticmethod
    def forward(ctx: Any, points: Tensor) -> Tensor:
        ctx.save_for_backward(points)
        gram = points @ points.T
        # Norms off the diagonal of the same product are rounded as its other entries
        # are, so that equal points are at distance zero.
        squared_norms = gram.diagonal()
        distances = squared_norms[:, None] + squared_norms
        return distances.sub_(gram, alpha=2).clamp_(min=0).fill_diagonal_(0)

    @staticmethod
    def backward(ctx: Any, weights: Tensor) -> Tensor:
        """``2 sum_j (w_ij + w_ji) (x_i - x_j)`` for row i; weights (B, B)."""
        (points,) = ctx.saved_tensors
        with torch.autocast(points.device.type, enabled=False):
            towards_itself = (weights.sum(dim=0) + weights.sum(dim=1))[:, None] * points
            towards_others = weights @ points + weights.T @ points
            return 2 * (towards_itself - towards_others)


@_in_full_precision
def sqeuclidean(embeddings: Tensor) -> Tensor:
    """Squared Euclidean distance, ``||x_i - x_j||^2``.

    Takes time O(B^2 D), nearly all of it matrix products, and memory O(B^2).

    Parameters
    ----------
    embeddings : Tensor of shape (B, D)
        Half precision is computed in float32.

    Returns
    -------
    Tensor of shape (B, B)
        Equal rows are at distance zero, up to a rounding of the squared spread.

    Examples
    --------
    >>> import torch
    >>> from sktriplet.distances import sqeuclidean
    >>> sqeuclidean(torch.tensor([[0.0, 0.0], [3.0, 4.0]]))
    tensor([[ 0., 25.],
            [25.,  0.]])
    """
    # Distances survive translation, digits do not: the Gram matrix of a centred cloud
    # loses the fewest.
    return _SquaredEuclidean.apply(embeddings - embeddings.detach().mean(dim=0))


@_in_full_precision
def euclidean(embeddings: Tensor) -> Tensor:
    """Euclidean distance, ``||x_i - x_j||``.

    The gradient between coinciding rows is zero, where the root has none.

    Parameters
    ----------
    embeddings : Tensor of shape (B, D)
        Half precision is computed in float32.

    Returns
    -------
    Tensor of shape (B, B)

    Examples
    --------
    >>> import torch
    >>> from sktriplet.distances import euclidean
    >>> euclidean(torch.tensor([[0.0, 0.0], [3.0, 4.0]]))
    tensor([[0., 5.],
            [5., 0.]])
    """
    squared = sqeuclidean(embeddings)
    # At zero the root's slope is infinite, and a mask afterwards would make NaN of it.
    smallest = torch.finfo(squared.dtype).tiny
    return squared.clamp(min=smallest).sqrt().masked_fill(squared < smallest, 0)


@_in_full_precision
def cosine(embeddings: Tensor) -> Tensor:
    """Cosine distance, ``1 - <x_i, x_j> / (||x_i|| ||x_j||)``, from 0 to 2.

    On the unit sphere the squared Euclidean distance is twice the cosine distance. A
    row of zeros has no direction: it is at distance 1 from every other row.

    Parameters
    ----------
    embeddings : Tensor of shape (B, D)
        Half precision is computed in float32.

    Returns
    -------
    Tensor of shape (B, B)

    Examples
    --------
    >>> import torch
    >>> from sktriplet.distances import cosine
    >>> cosine(torch.tensor([[1.0, 0.0], [0.0, 2.0], [-3.0, 0.0]]))
    tensor([[0., 1., 2.],
            [1., 0., 1.],
            [2., 1., 0.]])
    """
    norms = torch.linalg.vector_norm(embeddings, dim=1, keepdim=True)
    has_none = norms == 0
    directions = embeddings / norms.masked_fill(has_none, 1)
    # One minus the product would round what is near zero as coarsely as one.
    distances = sqeuclidean(directions) / 2
    return distances.masked_fill(has_none | has_none.T, 1).fill_diagonal_(0)


DISTANCES: dict[str, Distance] = {
    "sqeuclidean": sqeuclidean,
    "euclidean": euclidean,
    "cosine": cosine,
}
