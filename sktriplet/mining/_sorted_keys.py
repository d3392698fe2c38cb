"""TODO."""

import sys
from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sktriplet.mining._triplets import Triplets

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
