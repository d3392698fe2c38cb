"""Bootstrap of pairs by class.

Pairs that share a class are not independent, so that resampling single pairs would give intervals
that are much too narrow.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray


def bootstrap_pair_weights(
    classes: NDArray[np.intp], n_bootstraps: int, rng: np.random.Generator
) -> Iterator[NDArray[np.int64]]:
    """Draw classes with replacement, and yield how often each pair occurs in each bootstrap.

    ``classes``, of shape (n_pairs, 2), are the codes of the classes of both samples of each pair.
    A pair of two classes occurs as often as the product of how often these are drawn. The copies
    of a class form no pairs with each other, so a pair of one class occurs as often as its class.

    Examples
    --------
    >>> import numpy as np
    >>> from sktriplet.metrics._cluster_bootstrap import bootstrap_pair_weights
    >>> pairs = np.array([[0, 0], [1, 1], [2, 2], [0, 1], [1, 2]])
    >>> (weights,) = bootstrap_pair_weights(pairs, 1, np.random.default_rng(1))
    >>> weights
    array([0, 2, 1, 0, 2])
    """
    left, right = classes.T
    present = np.unique(classes)
    counts = np.zeros(present[-1] + 1, dtype=np.int64)
    for _ in range(n_bootstraps):
        drawn = rng.choice(present, len(present))
        counts[:] = np.bincount(drawn, minlength=len(counts))
        yield counts[left] * np.where(left == right, 1, counts[right])
