"""Miners, and their implementations for any device and precision."""

from collections.abc import Callable

import torch
from torch import Tensor

from sktriplet.mining._sorted_keys import hardest_in_numpy, semi_hard_by_keys, suits_numpy
from sktriplet.mining._triplets import Triplets

Miner = Callable[..., Triplets]


@torch.no_grad()
def semi_hard(
    distances: Tensor,
    labels: Tensor,
    *,
    margin: float,
    generator: torch.Generator | None = None,
) -> Triplets:
    """For each anchor and positive, select the nearest semi-hard negative.

    A negative n is semi-hard if ``d(a, p) < d(a, n) < d(a, p) + margin``. Among these, the one
    nearest to the anchor is selected; ties go to the lowest index. There is one triplet for each
    ordered pair (a, p) that has such a negative [1]_. A batch without any returns empty tensors.
    Takes O(B^2 log B) time and O(B^2) memory.

    Parameters
    ----------
    distances : Tensor of shape (B, B) or (G, B, B)
        Pairwise distances; row a holds the distances from anchor a. In a stack of G batches,
        sample i of batch g has index g * B + i.
    labels : int Tensor of shape (B,) or (G, B)
        Class labels.
    margin : float
        Width of the interval of distances in which a negative is semi-hard.
    generator : torch.Generator, default=None
        Ignored, present for API consistency.

    Returns
    -------
    triplets : Triplets
        Indices, ordered by anchor. The order within an anchor is not specified.

    References
    ----------
    .. [1] Schroff, Kalenichenko and Philbin, "FaceNet: A Unified Embedding for Face
       Recognition and Clustering", CVPR 2015.

    Examples
    --------
    >>> import torch
    >>> from sktriplet.distances import sqeuclidean
    >>> from sktriplet.mining import semi_hard
    >>> points = torch.tensor([[0.0], [1.0], [1.1], [5.0]])
    >>> triplets = semi_hard(sqeuclidean(points), torch.tensor([0, 0, 1, 1]), margin=0.5)
    >>> [indices.tolist() for indices in triplets]
    [[0], [1], [2]]
    """
    mine = semi_hard_by_keys if suits_numpy(distances) else _semi_hard_by_search
    return mine(distances, labels, margin)


@torch.no_grad()
def hard(
    distances: Tensor,
    labels: Tensor,
    *,
    margin: float | None = None,
    generator: torch.Generator | None = None,
) -> Triplets:
    """For each anchor, select the farthest positive and the nearest negative (batch-hard).

    There is one triplet for each anchor that has a positive and a negative; ties go to the
    lowest index [1]_. Infinite and NaN distances form no triplets.

    Parameters
    ----------
    distances : Tensor of shape (B, B)
        Pairwise distances; row a holds the distances from anchor a.
    labels : int Tensor of shape (B,)
        Class labels.
    margin : float, default=None
        Ignored, present for API consistency.
    generator : torch.Generator, default=None
        Ignored, present for API consistency.

    Returns
    -------
    triplets : Triplets
        Indices, ordered by anchor.

    References
    ----------
    .. [1] Hermans, Beyer and Leibe, "In Defense of the Triplet Loss for Person
       Re-Identification", arXiv:1703.07737, 2017.

    Examples
    --------
    >>> import torch
    >>> from sktriplet.distances import sqeuclidean
    >>> from sktriplet.mining import hard
    >>> points = torch.tensor([[0.0], [1.0], [3.0], [4.0]])
    >>> triplets = hard(sqeuclidean(points), torch.tensor([0, 0, 0, 1]))
    >>> [indices.tolist() for indices in triplets]
    [[0, 1, 2], [2, 2, 0], [3, 3, 3]]
    """
    find = hardest_in_numpy if suits_numpy(distances) else _hardest_in_torch
    positive, negative = find(distances, labels)
    anchor = torch.arange(len(labels), device=distances.device)
    d_ap = distances[anchor, positive]
    d_an = distances[anchor, negative]
    is_triplet = (
        (labels == labels[positive])
        & (positive != anchor)
        & (labels != labels[negative])
        & d_ap.isfinite()
        & d_an.isfinite()
    )
    return Triplets(anchor[is_triplet], positive[is_triplet], negative[is_triplet])


@torch.no_grad()
def random(
    distances: Tensor,
    labels: Tensor,
    *,
    margin: float | None = None,
    generator: torch.Generator | None = None,
) -> Triplets:
    """For each anchor and positive, draw a negative uniformly at random.

    There is one triplet for each ordered pair of samples of the same class, provided that the
    batch holds a second class.

    Parameters
    ----------
    distances : Tensor of shape (B, B)
        Ignored, present for API consistency.
    labels : int Tensor of shape (B,)
        Class labels.
    margin : float, default=None
        Ignored, present for API consistency.
    generator : torch.Generator, default=None
        Source of random numbers. None uses torch's global generator.

    Returns
    -------
    triplets : Triplets
        Indices, ordered by anchor, then by positive.

    Examples
    --------
    >>> import torch
    >>> from sktriplet.mining import random
    >>> triplets = random(torch.zeros(4, 4), torch.tensor([0, 0, 0, 1]))
    >>> [indices.tolist() for indices in triplets]
    [[0, 0, 1, 1, 2, 2], [1, 2, 0, 2, 0, 1], [3, 3, 3, 3, 3, 3]]
    """
    labels = labels.contiguous()  # searchsorted copies other layouts
    same_class = labels[:, None] == labels
    anchor, positive = same_class.fill_diagonal_(False).nonzero(as_tuple=True)
    # Sorted by class, the negatives of a sample are all samples except one contiguous block.
    by_class = labels.argsort(stable=True)
    block_start = torch.searchsorted(labels[by_class], labels)
    block_size = torch.searchsorted(labels[by_class], labels, right=True) - block_start
    n_negatives = (len(labels) - block_size)[anchor]
    anchor, positive = anchor[n_negatives > 0], positive[n_negatives > 0]
    draws = torch.randint(
        2**62,
        anchor.shape,
        generator=generator,
        device=labels.device if generator is None else generator.device,
    ).to(labels.device)
    rank = draws % n_negatives[n_negatives > 0]
    rank += (rank >= block_start[anchor]) * block_size[anchor]
    return Triplets(anchor, positive, by_class[rank])


MINERS: dict[str, Miner] = {"semi_hard": semi_hard, "hard": hard, "random": random}
# Miners that also accept a stack of batches, (G, B, B) and (G, B).
STACK_MINERS: tuple[Miner, ...] = (semi_hard,)
# The other miners return at most one triplet for each ordered pair (anchor, positive).
ONE_TRIPLET_PER_ANCHOR: tuple[Miner, ...] = (hard,)


def _semi_hard_by_search(distances: Tensor, labels: Tensor, margin: float) -> Triplets:
    distances = distances.contiguous()  # searchsorted copies other layouts
    n_samples = distances.shape[-1]
    same_class = labels[..., None] == labels[..., None, :]
    nearest_first, columns = distances.masked_fill(same_class, torch.inf).sort(dim=-1, stable=True)
    # (..., B, B): rank, among the anchor's negatives, of the first one farther than the column
    rank = torch.searchsorted(nearest_first, distances, right=True)
    rank.clamp_(max=n_samples - 1)
    candidate = nearest_first.gather(-1, rank)
    is_semi_hard = (candidate > distances) & (candidate < distances + margin)
    is_semi_hard &= same_class
    is_semi_hard.diagonal(dim1=-2, dim2=-1).fill_(False)
    anchor, positive = is_semi_hard.reshape(labels.numel(), n_samples).nonzero(as_tuple=True)
    negative = columns.gather(-1, rank).reshape(labels.numel(), n_samples)[anchor, positive]
    first = anchor.div(n_samples, rounding_mode="floor") * n_samples  # of the anchor's batch
    return Triplets(anchor, first + positive, first + negative)


def _hardest_in_torch(distances: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Return, for each anchor, the farthest positive and the nearest negative, if it has any."""
    if len(labels) == 0:
        return labels.new_empty(0, dtype=torch.int64), labels.new_empty(0, dtype=torch.int64)
    same_class = labels[:, None] == labels
    negative = distances.masked_fill(same_class, torch.inf).argmin(dim=1)
    is_positive = same_class.fill_diagonal_(False)
    positive = distances.masked_fill(~is_positive, -torch.inf).argmax(dim=1)
    return positive, negative
