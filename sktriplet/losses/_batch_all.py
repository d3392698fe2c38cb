"""TODO."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sktriplet.losses._base import _class_sizes, _each, _Total
from sktriplet.losses._elementwise import Loss
from sktriplet.mining._sorted_keys import (
    _COLUMN,
    _LATER,
    _chunks,
    _classes,
    _silence,
    _sorted_keys,
    _suits_numpy,
)

# Triplets that batch-all holds at a time when it has to look at each of them.
_CHUNK = 1 << 20


def _over_all_hinges(
    distances: Tensor, labels: Tensor, margin: float
) -> tuple[_Total, Tensor, Tensor]:
    fixed = distances.detach()
    counts = batch_all_counts(fixed, labels, margin=margin)
    n_active = counts.relu().sum()
    n_triplets, d_ap, d_an = _all_triplets(fixed, labels)
    loss = (counts * distances).sum() + margin * n_active
    return _Total(loss, n_triplets, n_active), d_ap, d_an


def _over_all(
    distances: Tensor, labels: Tensor, loss: Loss, margin: float
) -> tuple[_Total, Tensor, Tensor]:
    """Look at every triplet, some anchors at a time.

    What a chunk adds to the gradient with respect to the distances is computed at once,
    so that nothing but a (B, B) matrix is kept for the backward pass.
    """
    fixed = distances.detach()
    gradient = torch.zeros_like(fixed) if distances.requires_grad else None
    total, n_active = fixed.new_zeros(()), fixed.new_zeros(())
    for anchors, positives, negatives in _anchor_chunks(labels):
        # (R, P, 1) and (R, 1, N): every pair of both is a triplet
        d_ap = fixed[anchors, positives].unsqueeze(2).requires_grad_(gradient is not None)
        d_an = fixed[anchors, negatives].unsqueeze(1).requires_grad_(gradient is not None)
        with torch.set_grad_enabled(gradient is not None):
            each_ap, each_an = torch.broadcast_tensors(d_ap, d_an)
            losses = _each(loss, each_ap.flatten(), each_an.flatten(), margin)
            chunk_total = losses.sum()
        if gradient is not None and chunk_total.requires_grad:
            of_ap, of_an = torch.autograd.grad(chunk_total, (d_ap, d_an))
            gradient[anchors, positives] = of_ap.squeeze(2)
            gradient[anchors, negatives] = of_an.squeeze(1)
        total += chunk_total.detach()
        n_active += (losses.detach() > 0).sum()
    if gradient is not None:
        total = _WithGradient.apply(distances, total, gradient)
    n_triplets, d_ap, d_an = _all_triplets(fixed, labels)
    return _Total(total, n_triplets, n_active), d_ap, d_an


def _anchor_chunks(labels: Tensor) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Yield anchors (R, 1) of one class, their positives (R, P) and negatives (R, N)."""
    for label in labels.unique():
        members = (labels == label).nonzero().squeeze(1)
        others = (labels != label).nonzero().squeeze(1)
        n_positives, n_negatives = len(members) - 1, len(others)
        if n_positives == 0 or n_negatives == 0:
            continue
        for anchors in members.split(max(1, _CHUNK // (n_positives * n_negatives))):
            anchors = anchors[:, None]
            alike = members.expand(len(anchors), -1)
            positives = alike[alike != anchors].view(len(anchors), n_positives)
            yield anchors, positives, others.expand(len(anchors), -1)


class _WithGradient(torch.autograd.Function):
    """A value whose gradient is known already."""

    @staticmethod
    def forward(ctx: Any, distances: Tensor, value: Tensor, gradient: Tensor) -> Tensor:
        ctx.save_for_backward(gradient)
        return value.clone()

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor, None, None]:
        if torch.is_grad_enabled():
            raise RuntimeError("With mining='all' only the hinge can be differentiated twice.")
        (gradient,) = ctx.saved_tensors
        return grad_output * gradient, None, None


def _all_triplets(distances: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the number of all triplets and the means of d_ap and d_an over them.

    A pair (a, p) is in as many triplets as a has negatives, a pair (a, n) in as many as
    it has positives.
    """
    alike = (labels[:, None] == labels).fill_diagonal_(False)
    sizes = _class_sizes(labels)
    n_positives, n_negatives = sizes - 1, len(labels) - sizes
    n_triplets = (n_positives * n_negatives).sum()
    to_alike = (distances * alike).sum(dim=1)
    to_different = distances.sum(dim=1) - distances.diagonal() - to_alike
    d_ap = (to_alike * n_negatives).sum() / n_triplets
    d_an = (to_different * n_positives).sum() / n_triplets
    return n_triplets, d_ap, d_an


@torch.no_grad()
def batch_all_counts(distances: Tensor, labels: Tensor, *, margin: float) -> Tensor:
    """How many active triplets of the batch hold each pair, signed.

    A triplet (a, p, n) is active when ``d(a, n) < d(a, p) + margin``. Of all triplets of
    the batch, entry (a, p) counts those active with anchor a and positive p, and entry
    (a, n) is minus the count of those with anchor a and negative n. The sum of all
    hinges is linear in the distances so long as these counts stand, and they are its
    gradient. Takes time O(B^2 log B) and memory O(B^2), though there may be B^3
    triplets.

    Parameters
    ----------
    distances : Tensor of shape (B, B)
        Row a holds the distances from anchor a.
    labels : integer Tensor of shape (B,)
    margin : float

    Returns
    -------
    Tensor of shape (B, B)
        Whole numbers in the dtype of the distances.

    Examples
    --------
    >>> import torch
    >>> from sktriplet.distances import sqeuclidean
    >>> from sktriplet.losses._batch_all import batch_all_counts
    >>> points = torch.tensor([[0.0], [1.0], [1.1], [5.0]])
    >>> batch_all_counts(sqeuclidean(points), torch.tensor([0, 0, 1, 1]), margin=0.5)
    tensor([[ 0.,  1., -1.,  0.],
            [ 1.,  0., -1.,  0.],
            [-1., -1.,  0.,  2.],
            [ 0.,  0.,  0.,  0.]])
    """
    if _suits_numpy(distances):
        with _silence():
            return _batch_all_counts_by_keys(distances, labels, margin)
    return _batch_all_counts_by_search(distances, labels, margin)


def _batch_all_counts_by_search(distances: Tensor, labels: Tensor, margin: float) -> Tensor:
    distances = distances.contiguous()  # as binary searches want it
    same = labels[:, None] == labels
    positive = same.clone().fill_diagonal_(False)
    reach = distances + margin
    negatives = distances.masked_fill(same, torch.inf).sort(dim=1).values
    active_negatives = torch.searchsorted(negatives, reach)
    positives = reach.masked_fill(~positive, -torch.inf).sort(dim=1).values
    active_positives = len(labels) - torch.searchsorted(positives, distances, right=True)
    counts = torch.where(positive, active_negatives, -active_positives)
    return counts.masked_fill_(same & ~positive, 0).to(distances.dtype)


def _batch_all_counts_by_keys(distances: Tensor, labels: Tensor, margin: float) -> Tensor:
    class_of, member = _classes(labels)
    values = distances.numpy()
    columns = np.arange(len(values))
    # A negative comes after the positives that reach just as far: it is not nearer.
    low = np.where(member, columns, columns | _LATER)
    reach = np.where(member, np.float32(margin), np.float32(0))
    n_positives = torch.from_numpy(member.sum(axis=1, dtype=np.int32)[class_of] - 1)
    place = torch.arange(1, len(values) + 1, dtype=torch.int32)
    counts = torch.empty(distances.shape)
    for rows in _chunks(len(values)):
        reaching = values[rows] + reach[class_of[rows]]
        keys = _sorted_keys(reaching, low[class_of[rows]], columns[rows])
        is_negative = torch.from_numpy(keys.astype(np.int32) < 0)
        negatives_so_far = is_negative.cumsum(dim=1, dtype=torch.int32)
        minus_positives_to_come = (place - n_positives[rows, None]).sub_(negatives_so_far)
        signed = torch.where(is_negative, minus_positives_to_come, negatives_so_far)
        keys &= _COLUMN
        counts[rows].scatter_(1, torch.from_numpy(keys), signed.to(counts.dtype))
    return counts.fill_diagonal_(0)
