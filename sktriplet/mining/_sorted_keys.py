"""Mining on a CPU in float32, with NumPy.

Each row of distances becomes a row of 64-bit integers (keys) that NumPy sorts 5 to 30 times faster
than torch sorts floats. The upper half of a key has the order of its distance. The lower half
holds a bit that decides the order among equal distances, and the column: one sort yields both.
"""

import sys
from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sktriplet.mining._triplets import Triplets

Keys = NDArray[np.int64]

# Position of the upper half of a key, seen as two 32-bit integers.
UPPER_HALF = 1 if sys.byteorder == "little" else 0
# Sign bit of the lower half: sorts a key after those of equal distance without it.
LAST_AMONG_TIES = 1 << 31
COLUMN_MASK = LAST_AMONG_TIES - 1
LARGEST_DISTANCE = COLUMN_MASK << 32
# Number of keys sorted at a time: their 512 KB fit into the cache of a core.
CHUNK_SIZE = 1 << 16


def suits_numpy(distances: Tensor) -> bool:
    """Return whether this module can mine these distances."""
    return distances.device.type == "cpu" and distances.dtype == torch.float32


def class_membership(labels: Tensor) -> tuple[NDArray[np.intp], NDArray[np.bool_]]:
    """Return the class index of each sample (B,), and the samples of each class (C, B).

    Anchors of one class share a mask, and copying a row is cheaper than comparing labels. In a
    stack of batches (G, B), each batch has its own classes, and its own rows of samples.
    """
    classes, inverse = labels.unique(return_inverse=True)
    class_of = inverse.reshape(labels.shape[:-1].numel(), labels.shape[-1]).numpy()  # (G, B)
    in_class = np.arange(len(classes))[:, None] == class_of[:, None]  # (G, C, B)
    class_of = class_of + len(classes) * np.arange(len(class_of))[:, None]
    return class_of.ravel(), np.concatenate(in_class)


def chunks(n_anchors: int, n_samples: int) -> Iterator[slice]:
    """Yield slices of anchors whose keys fit into the cache."""
    step = max(1, CHUNK_SIZE // max(1, n_samples))
    return (slice(start, start + step) for start in range(0, n_anchors, step))


def _to_sortable(bits: NDArray[np.int32]) -> NDArray[np.int32]:
    """Map the bits of floats to integers of the same order. The map is its own inverse.

    Only negative floats change: among their bits, the larger integer is the smaller number.
    """
    return bits ^ ((bits >> 31) & 0x7FFFFFFF)


def sort_keys(distances: NDArray[np.float32], low_halves: Keys, anchors: NDArray[np.intp]) -> Keys:
    """Return the keys of a few anchors (R, B) in ascending order, the anchor's own column last.

    The keys overwrite `low_halves` (R, B).
    """
    bits = distances.view(np.int32)
    if bits.min() < 0:
        # Adding zero turns -0.0 into 0.0, which is equal to it.
        with np.errstate(invalid="ignore"):
            bits = _to_sortable((distances + np.float32(0)).view(np.int32))
    keys = low_halves
    keys.view(np.int32)[:, UPPER_HALF::2] = bits
    keys[np.arange(len(anchors)), anchors] = anchors | LARGEST_DISTANCE
    keys.sort(axis=1)
    return keys


def _distances_of(keys: Keys) -> NDArray[np.float32]:
    """Return the distances in a vector of keys; NaN in the key of an anchor's own column."""
    bits = keys.view(np.int32)[UPPER_HALF::2]
    return (bits if keys.min(initial=0) >= 0 else _to_sortable(bits)).view(np.float32)


def semi_hard_by_keys(distances: Tensor, labels: Tensor, margin: float) -> Triplets:
    """Mine semi-hard triplets with one sort: the negative is the next key of another class.

    Rows of a stack of batches (G, B, B) are sorted like those of a single one.
    """
    n_samples = distances.shape[-1]
    values = distances.reshape(labels.numel(), n_samples).numpy()
    class_of, in_class = class_membership(labels)
    columns = np.arange(n_samples)
    own_columns = np.tile(columns, len(values) // max(n_samples, 1))
    # A negative at the distance of a positive is not farther, and therefore comes before it.
    low_halves = np.where(in_class, columns | LAST_AMONG_TIES, columns)
    triplets = np.empty((3, in_class.sum(axis=1)[class_of].sum()), np.int64)
    n_found = 0
    for rows in chunks(len(values), n_samples):
        keys = sort_keys(values[rows], low_halves[class_of[rows]], own_columns[rows])
        is_positive = keys.astype(np.int32) < 0
        positives = np.flatnonzero(is_positive)
        # The number of other keys before a positive is the rank of the next one: a negative,
        # or the anchor itself at the end of the row.
        others = np.flatnonzero(~is_positive)
        rank = positives - np.arange(len(positives))
        near, far = keys.take(positives), keys.take(others.take(rank, mode="clip"))
        with np.errstate(over="ignore", invalid="ignore"):
            within_margin = _distances_of(far) < _distances_of(near) + np.float32(margin)
        found = np.flatnonzero(within_margin)
        anchor, positive, negative = triplets[:, n_found : n_found + len(found)]
        np.floor_divide(positives.take(found), n_samples, out=anchor)
        anchor += rows.start
        np.bitwise_and(near.take(found), COLUMN_MASK, out=positive)
        np.bitwise_and(far.take(found), COLUMN_MASK, out=negative)
        n_found += len(found)
    triplets = triplets[:, :n_found]
    if distances.ndim > 2:
        triplets[1:] += triplets[0] // n_samples * n_samples
    return Triplets(*torch.from_numpy(triplets))


def hardest_in_numpy(distances: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Return, for each anchor, the farthest positive and the nearest negative, if it has any."""
    class_of, in_class = class_membership(labels)
    values = distances.numpy()
    n_samples = len(values)
    bound = np.where(in_class, np.float32(np.inf), np.float32(-np.inf))
    positive, negative = np.empty((2, n_samples), np.int64)
    for rows in chunks(n_samples, n_samples):
        bounds = bound[class_of[rows]]
        candidates = np.fmin(values[rows], bounds)
        own = np.arange(len(candidates))
        candidates[own, own + rows.start] = -np.inf
        candidates.argmax(axis=1, out=positive[rows])
        np.fmax(values[rows], bounds, out=candidates).argmin(axis=1, out=negative[rows])
    return torch.from_numpy(positive), torch.from_numpy(negative)
