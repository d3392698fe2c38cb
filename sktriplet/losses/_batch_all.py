"""Losses summed over all triplets of a batch, without listing them.

The sum of the hinges is linear in the distances as long as the same triplets are active, so
counting the active triplets of each pair suffices. Other losses are evaluated in chunks.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sktriplet.losses._base import LossSum, class_sizes, elementwise_loss
from sktriplet.losses._elementwise import ElementwiseLoss
from sktriplet.mining._sorted_keys import (
    COLUMN_MASK,
    LAST_AMONG_TIES,
    chunks,
    class_membership,
    sort_keys,
    suits_numpy,
)

# Maximum number of triplets in memory when each has to be evaluated.
MAX_TRIPLETS = 1 << 20


def batch_all_hinge_sum(
    distances: Tensor, labels: Tensor, margin: float
) -> tuple[LossSum, Tensor, Tensor]:
    """Return the sum of all hinges, and the mean d_ap and d_an over all triplets."""
    detached = distances.detach()
    counts = batch_all_counts(detached, labels, margin=margin)
    n_active = counts.relu().sum()
    n_triplets, d_ap, d_an = _all_triplet_means(detached, labels)
    loss = (counts * distances).sum() + margin * n_active
    return LossSum(loss, n_triplets, n_active), d_ap, d_an


def batch_all_sum(
    distances: Tensor, labels: Tensor, loss: ElementwiseLoss, margin: float
) -> tuple[LossSum, Tensor, Tensor]:
    """Return the sum of a loss over all triplets, and their mean d_ap and d_an."""
    total, n_active = _BatchAllSum.apply(distances, labels, loss, margin)
    n_triplets, d_ap, d_an = _all_triplet_means(distances.detach(), labels)
    return LossSum(total, n_triplets, n_active), d_ap, d_an


class _BatchAllSum(torch.autograd.Function):
    """Sum a loss over all triplets, a chunk of anchors at a time.

    The gradient with respect to the distances is computed with each chunk, so the backward pass
    needs a (B, B) matrix only. The sum cannot be differentiated twice.
    """

    @staticmethod
    def forward(
        ctx: Any, distances: Tensor, labels: Tensor, loss: ElementwiseLoss, margin: float
    ) -> tuple[Tensor, Tensor]:
        needs_gradient = ctx.needs_input_grad[0]
        gradient = torch.zeros_like(distances) if needs_gradient else None
        total, n_active = distances.new_zeros(()), distances.new_zeros(())
        for anchors, positives, negatives in _anchor_chunks(labels):
            # (R, P, 1) and (R, 1, N): each pair of one of each is a triplet
            d_ap = distances[anchors, positives].unsqueeze(2).requires_grad_(needs_gradient)
            d_an = distances[anchors, negatives].unsqueeze(1).requires_grad_(needs_gradient)
            with torch.set_grad_enabled(needs_gradient):
                all_ap, all_an = torch.broadcast_tensors(d_ap, d_an)
                losses = elementwise_loss(loss, all_ap.flatten(), all_an.flatten(), margin)
                chunk_total = losses.sum()
            if gradient is not None and chunk_total.requires_grad:
                to_ap, to_an = torch.autograd.grad(chunk_total, (d_ap, d_an))
                gradient[anchors, positives] = to_ap.squeeze(2)
                gradient[anchors, negatives] = to_an.squeeze(1)
            total += chunk_total.detach()
            n_active += (losses.detach() > 0).sum()
        ctx.gradient = gradient
        ctx.mark_non_differentiable(n_active)
        return total, n_active

    @staticmethod
    def backward(ctx: Any, grad_total: Tensor, _: Tensor) -> tuple[Tensor, None, None, None]:
        # torch's once_differentiable would silently drop the second derivative of the sum.
        if torch.is_grad_enabled():
            raise RuntimeError("With mining='all' only the hinge can be differentiated twice.")
        return grad_total * ctx.gradient, None, None, None


def _anchor_chunks(labels: Tensor) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Yield anchors (R, 1) of one class, their positives (R, P) and negatives (R, N)."""
    for label in labels.unique():
        in_class = (labels == label).nonzero().squeeze(1)
        others = (labels != label).nonzero().squeeze(1)
        n_positives, n_negatives = len(in_class) - 1, len(others)
        if n_positives == 0 or n_negatives == 0:
            continue
        for anchors in in_class.split(max(1, MAX_TRIPLETS // (n_positives * n_negatives))):
            anchors = anchors[:, None]
            candidates = in_class.expand(len(anchors), -1)
            positives = candidates[candidates != anchors].view(len(anchors), n_positives)
            yield anchors, positives, others.expand(len(anchors), -1)


def _all_triplet_means(distances: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the number of all triplets, and the means of d_ap and d_an over them.

    A pair (a, p) is in as many triplets as a has negatives, a pair (a, n) in as many as
    it has positives.
    """
    same_class = (labels[:, None] == labels).fill_diagonal_(False)
    sizes = class_sizes(labels)
    n_positives, n_negatives = sizes - 1, len(labels) - sizes
    n_triplets = (n_positives * n_negatives).sum()
    to_positives = (distances * same_class).sum(dim=1)
    to_negatives = distances.sum(dim=1) - distances.diagonal() - to_positives
    d_ap = (to_positives * n_negatives).sum() / n_triplets
    d_an = (to_negatives * n_positives).sum() / n_triplets
    return n_triplets, d_ap, d_an


@torch.no_grad()
def batch_all_counts(distances: Tensor, labels: Tensor, *, margin: float) -> Tensor:
    """Count the active triplets of each pair, with a sign (B, B).

    A triplet (a, p, n) is active if ``d(a, n) < d(a, p) + margin``. Entry (a, p) is the number of
    active triplets with anchor a and positive p, entry (a, n) minus the number of those
    with anchor a and negative n. The counts are the gradient of the sum of all hinges. Takes
    O(B^2 log B) time and O(B^2) memory, although there may be B^3 triplets.
    """
    count = _counts_by_keys if suits_numpy(distances) else _counts_by_search
    return count(distances, labels, margin)


def _counts_by_search(distances: Tensor, labels: Tensor, margin: float) -> Tensor:
    """Count by binary search in sorted rows, on any device and in any precision."""
    distances = distances.contiguous()  # searchsorted copies other layouts
    same_class = labels[:, None] == labels
    is_positive = same_class.clone().fill_diagonal_(False)
    reach = distances + margin
    negatives = distances.masked_fill(same_class, torch.inf).sort(dim=1).values
    active_negatives = torch.searchsorted(negatives, reach)
    positives = reach.masked_fill(~is_positive, -torch.inf).sort(dim=1).values
    active_positives = len(labels) - torch.searchsorted(positives, distances, right=True)
    counts = torch.where(is_positive, active_negatives, -active_positives)
    return counts.masked_fill_(same_class & ~is_positive, 0).to(distances.dtype)


def _counts_by_keys(distances: Tensor, labels: Tensor, margin: float) -> Tensor:
    """Count in rows of sorted 64-bit keys, on a CPU and in float32."""
    class_of, in_class = class_membership(labels)
    values = distances.numpy()
    columns = np.arange(len(values))
    # A negative at the reach of a positive is not active, and therefore comes after it.
    low_halves = np.where(in_class, columns, columns | LAST_AMONG_TIES)
    reach = np.where(in_class, np.float32(margin), np.float32(0))
    n_positives = torch.from_numpy(in_class.sum(axis=1, dtype=np.int32)[class_of] - 1)
    position = torch.arange(1, len(values) + 1, dtype=torch.int32)
    counts = torch.empty_like(distances)
    for rows in chunks(len(values), len(values)):
        with np.errstate(over="ignore", invalid="ignore"):
            reaching = values[rows] + reach[class_of[rows]]
        keys = sort_keys(reaching, low_halves[class_of[rows]], columns[rows])
        is_negative = torch.from_numpy(keys.astype(np.int32) < 0)
        negatives_so_far = is_negative.cumsum(dim=1, dtype=torch.int32)
        minus_positives_to_come = (position - n_positives[rows, None]).sub_(negatives_so_far)
        signed = torch.where(is_negative, minus_positives_to_come, negatives_so_far)
        keys &= COLUMN_MASK
        counts[rows].scatter_(1, torch.from_numpy(keys), signed.to(counts.dtype))
    return counts.fill_diagonal_(0)
