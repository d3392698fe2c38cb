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

import sys
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


class Triplets(NamedTuple):
    """Indices into a batch: three int64 tensors of shape (T,)."""

    anchor: Tensor
    positive: Tensor
    negative: Tensor


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
    >>> from sktriplet.mining import batch_all_counts
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


# On a CPU in float32: rows of 64-bit keys. The high half of a key orders as its distance
# does; the low half holds one bit that settles who comes first where distances are equal,
# and the column.

_HIGH = 1 if sys.byteorder == "little" else 0
# The sign bit of the low half.
_LATER = 1 << 31
_COLUMN = _LATER - 1
_BEYOND_ALL = _COLUMN << 32
# Keys sorted at a time: 512 KB of them stay in a core's cache.
_CHUNK = 1 << 16

_Keys = NDArray[np.int64]


def _suits_numpy(distances: Tensor) -> bool:
    return distances.device.type == "cpu" and distances.dtype == torch.float32


def _silence() -> np.errstate:
    """Let NumPy say no more than torch of numbers that are infinite or none."""
    return np.errstate(over="ignore", invalid="ignore")


def _classes(labels: Tensor) -> tuple[NDArray[np.intp], NDArray[np.bool_]]:
    """Return the class number of each row (B,) and who belongs to each class (C, B).

    Anchors of one class share their masks, and to copy a row of a mask made for each
    class is cheaper than to compare labels.
    """
    of_class, class_of = labels.unique(return_inverse=True)
    return class_of.numpy(), np.arange(len(of_class))[:, None] == class_of.numpy()


def _chunks(n_rows: int) -> Iterator[slice]:
    step = max(1, _CHUNK // max(1, n_rows))
    return (slice(start, start + step) for start in range(0, n_rows, step))


def _as_ordered(bits: NDArray[np.int32]) -> NDArray[np.int32]:
    """Let integers order as the floats whose bits they are; its own inverse.

    Only negative floats change: of two, the greater integer is the lesser number.
    """
    return bits ^ ((bits >> 31) & 0x7FFFFFFF)


def _sorted_keys(values: NDArray[np.float32], low: _Keys, own: NDArray[np.intp]) -> _Keys:
    """Return the keys of a few rows (R, B) in rising order, the anchor's own column last.

    `low` holds the low halves and is overwritten with the keys, `own` the anchors (R,).
    """
    bits = values.view(np.int32)
    if bits.min() < 0:
        # Zero added, -0.0 becomes 0.0, its equal.
        bits = _as_ordered((values + np.float32(0)).view(np.int32))
    low.view(np.int32)[:, _HIGH::2] = bits
    low[np.arange(len(own)), own] = own | _BEYOND_ALL
    low.sort(axis=1)
    return low


def _distances_in(keys: _Keys) -> NDArray[np.float32]:
    """Return the distances in a vector of keys; in the anchor's own key it is NaN."""
    bits = keys.view(np.int32)[_HIGH::2]
    return (bits if keys.min(initial=0) >= 0 else _as_ordered(bits)).view(np.float32)


def _semi_hard_by_keys(distances: Tensor, labels: Tensor, margin: float) -> Triplets:
    class_of, member = _classes(labels)
    values = distances.numpy()
    n_rows = len(values)
    columns = np.arange(n_rows)
    # A positive comes after negatives at the same distance: they are not farther.
    low = np.where(member, columns | _LATER, columns)
    triplets = np.empty((3, (member.sum(axis=1) ** 2).sum()), np.int64)
    n_found = 0
    for rows in _chunks(n_rows):
        keys = _sorted_keys(values[rows], low[class_of[rows]], columns[rows])
        is_positive = keys.astype(np.int32) < 0
        positives = np.flatnonzero(is_positive)
        # As many others as stand before a positive are skipped to find the next one: a
        # negative, or the anchor itself at the end of the row.
        others = np.flatnonzero(~is_positive)
        rank = positives - np.arange(len(positives))
        near, far = keys.take(positives), keys.take(others.take(rank, mode="clip"))
        within_margin = _distances_in(far) < _distances_in(near) + np.float32(margin)
        found = np.flatnonzero(within_margin)
        anchor, positive, negative = triplets[:, n_found : n_found + len(found)]
        np.floor_divide(positives.take(found), n_rows, out=anchor)
        anchor += rows.start
        np.bitwise_and(near.take(found), _COLUMN, out=positive)
        np.bitwise_and(far.take(found), _COLUMN, out=negative)
        n_found += len(found)
    return Triplets(*torch.from_numpy(triplets[:, :n_found]))


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


def _hardest_in_numpy(distances: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    class_of, member = _classes(labels)
    values = distances.numpy()
    n_rows = len(values)
    bound = np.where(member, np.float32(np.inf), np.float32(-np.inf))
    positive, negative = np.empty((2, n_rows), np.int64)
    for rows in _chunks(n_rows):
        bounds = bound[class_of[rows]]
        candidates = np.fmin(values[rows], bounds)
        own = np.arange(len(candidates))
        candidates[own, own + rows.start] = -np.inf
        candidates.argmax(axis=1, out=positive[rows])
        np.fmax(values[rows], bounds, out=candidates).argmin(axis=1, out=negative[rows])
    return torch.from_numpy(positive), torch.from_numpy(negative)
