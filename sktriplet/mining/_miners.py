"""Which triplets of a batch to learn from: ``(distances, labels) -> Triplets``.

Rows are *sampled* before the forward pass (`sktriplet.sampling`); triplets are *mined*
after it, here. One function a strategy, each
``(distances, labels, *, margin, generator) -> Triplets``; a callable of the same
signature is accepted wherever a name is. A row is never its own positive. Batch-all is
the absence of mining: its triplets are never listed, `batch_all_counts` counts them.

On a CPU in float32, rows are sorted by NumPy as 64-bit integers that hold a distance and
its column; otherwise torch sorts, on the device of the distances. Both give the same
triplets.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from sktriplet.mining._sorted_keys import (
    _hardest_in_numpy,
    _semi_hard_by_keys,
    _silence,
    _suits_numpy,
)
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
    """For each anchor and positive, the nearest negative that lies just beyond.

    Among the negatives with ``d(a, p) < d(a, n) < d(a, p) + margin`` the nearest to the
    anchor is taken, ties going to the lowest index: one triplet for each ordered pair
    (a, p) that has such a negative, none for a pair that has none [1]_. A batch without
    any gives empty tensors. Takes time O(B^2 log B) and memory O(B^2).

    Parameters
    ----------
    distances : Tensor of shape (B, B)
        Row a holds the distances from anchor a.
    labels : integer Tensor of shape (B,)
    margin : float
        How far beyond the positive a negative may lie.
    generator : torch.Generator, default=None
        Not used: nothing is random here.

    Returns
    -------
    Triplets
        Ordered by anchor; the order within an anchor is not specified.

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
    if _suits_numpy(distances):
        with _silence():
            return _semi_hard_by_keys(distances, labels, margin)
    return _semi_hard_by_search(distances, labels, margin)


@torch.no_grad()
def hard(
    distances: Tensor,
    labels: Tensor,
    *,
    margin: float | None = None,
    generator: torch.Generator | None = None,
) -> Triplets:
    """For each anchor, its farthest positive and its nearest negative (batch-hard).

    One triplet for each anchor that has a positive and a negative, ties going to the
    lowest index [1]_. Distances that are infinite or NaN give no triplet.

    Parameters
    ----------
    distances : Tensor of shape (B, B)
        Row a holds the distances from anchor a.
    labels : integer Tensor of shape (B,)
    margin : float, default=None
        Not used: the hardest are the hardest whatever the margin.
    generator : torch.Generator, default=None
        Not used: nothing is random here.

    Returns
    -------
    Triplets
        Ordered by anchor.

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
    find = _hardest_in_numpy if _suits_numpy(distances) else _hardest_in_torch
    with _silence():
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
    """For each anchor and positive, one negative drawn with equal chances.

    One triplet for each ordered pair of rows of one class, so long as the batch holds a
    second class.

    Parameters
    ----------
    distances : Tensor of shape (B, B)
        Not looked at.
    labels : integer Tensor of shape (B,)
    margin : float, default=None
        Not used.
    generator : torch.Generator, default=None
        Where the numbers are drawn, on its own device; None draws from torch's global
        generator.

    Returns
    -------
    Triplets
        Ordered by anchor, then by positive.

    Examples
    --------
    >>> import torch
    >>> from sktriplet.mining import random
    >>> triplets = random(torch.zeros(4, 4), torch.tensor([0, 0, 0, 1]))
    >>> [indices.tolist() for indices in triplets]
    [[0, 0, 1, 1, 2, 2], [1, 2, 0, 2, 0, 1], [3, 3, 3, 3, 3, 3]]
    """
    labels = labels.contiguous()  # as binary searches want it
    same = labels[:, None] == labels
    anchor, positive = same.fill_diagonal_(False).nonzero(as_tuple=True)
    # With the classes side by side, the negatives of a row are all rows but one stretch.
    by_class = labels.argsort(stable=True)
    first = torch.searchsorted(labels[by_class], labels)
    size = torch.searchsorted(labels[by_class], labels, right=True) - first
    n_negatives = (len(labels) - size)[anchor]
    anchor, positive = anchor[n_negatives > 0], positive[n_negatives > 0]
    draws = torch.randint(
        2**62,
        anchor.shape,
        generator=generator,
        device=labels.device if generator is None else generator.device,
    ).to(labels.device)
    rank = draws % n_negatives[n_negatives > 0]
    rank += (rank >= first[anchor]) * size[anchor]
    return Triplets(anchor, positive, by_class[rank])


MINERS: dict[str, Miner] = {"semi_hard": semi_hard, "hard": hard, "random": random}


# On any device, in any precision: sorted rows, and binary searches in them.
def _semi_hard_by_search(distances: Tensor, labels: Tensor, margin: float) -> Triplets:
    distances = distances.contiguous()  # as binary searches want it
    same = labels[:, None] == labels
    nearest_first, columns = distances.masked_fill(same, torch.inf).sort(dim=1, stable=True)
    # rank (B, B): where among its row's negatives the first strictly farther one stands
    rank = torch.searchsorted(nearest_first, distances, right=True)
    rank.clamp_(max=len(labels) - 1)
    beyond = nearest_first.gather(1, rank)
    found = (beyond > distances) & (beyond < distances + margin)
    anchor, positive = found.logical_and_(same.fill_diagonal_(False)).nonzero(as_tuple=True)
    return Triplets(anchor, positive, columns[anchor, rank[anchor, positive]])


def _hardest_in_torch(distances: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    if len(labels) == 0:
        return labels.new_empty(0, dtype=torch.int64), labels.new_empty(0, dtype=torch.int64)
    same = labels[:, None] == labels
    negative = distances.masked_fill(same, torch.inf).argmin(dim=1)
    positive = distances.masked_fill(~same.fill_diagonal_(False), -torch.inf).argmax(dim=1)
    return positive, negative
