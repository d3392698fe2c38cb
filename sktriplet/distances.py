"""Pairwise distances of a batch, ``(B, D) -> (B, B)``; small means similar.

Each function is differentiable, returns zeros on the diagonal and no negative entries, and
computes in float32 or float64, also under autocast. A stack of batches (G, B, D) is mapped to
(G, B, B). Any callable that maps a single batch is accepted wherever a name is.
"""

from collections.abc import Callable
from functools import wraps
from typing import Any

import torch
from torch import Tensor

Distance = Callable[[Tensor], Tensor]


def _in_full_precision(distance: Distance) -> Distance:
    """Compute a distance in float32 or float64, outside of autocast."""

    @wraps(distance)
    def full_precision(embeddings: Tensor) -> Tensor:
        dtype = torch.promote_types(embeddings.dtype, torch.float32)
        with torch.autocast(embeddings.device.type, enabled=False):
            return distance(embeddings.to(dtype))

    return full_precision


class _SquaredEuclidean(torch.autograd.Function):
    """Squared distances from one matrix product, with a gradient from two.

    Autograd would store and traverse a (B, B) matrix for every elementwise operation.
    """

    @staticmethod
    def forward(ctx: Any, points: Tensor) -> Tensor:
        ctx.save_for_backward(points)
        gram = points @ points.mT
        # Norms from the diagonal of the same product are rounded like its other entries, so
        # equal points have distance zero.
        squared_norms = gram.diagonal(dim1=-2, dim2=-1)
        distances = squared_norms[..., None] + squared_norms[..., None, :]
        distances.sub_(gram, alpha=2).clamp_(min=0).diagonal(dim1=-2, dim2=-1).zero_()
        return distances

    @staticmethod
    def backward(ctx: Any, weights: Tensor) -> Tensor:
        """``2 sum_j (w_ij + w_ji) (x_i - x_j)`` for row i; weights (B, B)."""
        (points,) = ctx.saved_tensors
        with torch.autocast(points.device.type, enabled=False):
            own_weights = weights.sum(dim=-2) + weights.sum(dim=-1)
            other_terms = weights @ points + weights.mT @ points
            return 2 * (own_weights[..., None] * points - other_terms)


@_in_full_precision
def sqeuclidean(embeddings: Tensor) -> Tensor:
    """Compute squared Euclidean distances ``||x_i - x_j||^2``.

    Takes O(B^2 D) time, nearly all of it in matrix products, and O(B^2) memory.

    Parameters
    ----------
    embeddings : Tensor of shape (B, D)
        Embeddings. Half precision is converted to float32.

    Returns
    -------
    distances : Tensor of shape (B, B)
        Equal embeddings have distance zero, up to a rounding error of the squared spread.

    Examples
    --------
    >>> import torch
    >>> from sktriplet.distances import sqeuclidean
    >>> sqeuclidean(torch.tensor([[0.0, 0.0], [3.0, 4.0]]))
    tensor([[ 0., 25.],
            [25.,  0.]])
    """
    # Distances are invariant to translation, rounding errors are not: they are smallest for
    # centered embeddings.
    return _SquaredEuclidean.apply(embeddings - embeddings.detach().mean(dim=-2, keepdim=True))


@_in_full_precision
def euclidean(embeddings: Tensor) -> Tensor:
    """Compute Euclidean distances ``||x_i - x_j||``.

    The gradient between coinciding embeddings, where the root is not differentiable, is zero.

    Parameters
    ----------
    embeddings : Tensor of shape (B, D)
        Embeddings. Half precision is converted to float32.

    Returns
    -------
    distances : Tensor of shape (B, B)
        Pairwise distances.

    Examples
    --------
    >>> import torch
    >>> from sktriplet.distances import euclidean
    >>> euclidean(torch.tensor([[0.0, 0.0], [3.0, 4.0]]))
    tensor([[0., 5.],
            [5., 0.]])
    """
    squared = sqeuclidean(embeddings)
    # The root has an infinite slope at zero, and a mask after it would turn that into NaN.
    smallest = torch.finfo(squared.dtype).tiny
    return squared.clamp(min=smallest).sqrt().masked_fill(squared < smallest, 0)


@_in_full_precision
def cosine(embeddings: Tensor) -> Tensor:
    """Compute cosine distances ``1 - <x_i, x_j> / (||x_i|| ||x_j||)``, from 0 to 2.

    On the unit sphere the squared Euclidean distance is twice the cosine distance. An
    embedding of zeros has no direction: its distance to every other embedding is 1.

    Parameters
    ----------
    embeddings : Tensor of shape (B, D)
        Embeddings. Half precision is converted to float32.

    Returns
    -------
    distances : Tensor of shape (B, B)
        Pairwise distances.

    Examples
    --------
    >>> import torch
    >>> from sktriplet.distances import cosine
    >>> cosine(torch.tensor([[1.0, 0.0], [0.0, 2.0], [-3.0, 0.0]]))
    tensor([[0., 1., 2.],
            [1., 0., 1.],
            [2., 1., 0.]])
    """
    norms = torch.linalg.vector_norm(embeddings, dim=-1, keepdim=True)
    is_zero = norms == 0
    directions = embeddings / norms.masked_fill(is_zero, 1)
    # One minus the inner product would be inaccurate for distances near zero.
    distances = sqeuclidean(directions) / 2
    distances = distances.masked_fill(is_zero | is_zero.mT, 1)
    distances.diagonal(dim1=-2, dim2=-1).zero_()
    return distances


DISTANCES: dict[str, Distance] = {
    "sqeuclidean": sqeuclidean,
    "euclidean": euclidean,
    "cosine": cosine,
}
