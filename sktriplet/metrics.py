"""How good an embedding is for retrieval."""

import warnings

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.exceptions import UndefinedMetricWarning
from sklearn.metrics import pairwise_distances_chunked
from sklearn.utils import check_X_y


def mean_average_precision_at_r_score(embeddings: ArrayLike, y: ArrayLike) -> float:
    r"""Mean average precision at R (MAP@R).

    Each row asks for the rows of its class among all others, nearest first, ties going
    to the lowest index. With R others of its class,

    .. math::
        \mathrm{MAP@R} = \frac{1}{R} \sum_{i=1}^{R} P(i),

    where P(i) is the precision among the i nearest if the i-th is of the row's class,
    and 0 if not. The score is the mean over the rows that have another of their class;
    1 means that each class stands together and apart [1]_.

    Parameters
    ----------
    embeddings : array-like of shape (n_rows, n_components)

    y : array-like of shape (n_rows,)

    Returns
    -------
    float
        Between 0 and 1; NaN, with an ``UndefinedMetricWarning``, if no row has another
        of its class.

    References
    ----------
    .. [1] Musgrave, Belongie and Lim, "A Metric Learning Reality Check", ECCV 2020.

    Examples
    --------
    >>> from sktriplet.metrics import mean_average_precision_at_r_score
    >>> embeddings = [[0.0], [1.0], [10.0], [11.0]]
    >>> mean_average_precision_at_r_score(embeddings, ["a", "a", "b", "b"])
    1.0
    >>> mean_average_precision_at_r_score(embeddings, ["a", "b", "a", "b"])
    0.0
    """
    embeddings, y = check_X_y(embeddings, y)
    _, labels, counts = np.unique(y, return_inverse=True, return_counts=True)
    n_relevant = counts[labels] - 1
    if not n_relevant.any():
        warnings.warn(
            "MAP@R is undefined and set to NaN: no row of y has another of its class.",
            UndefinedMetricWarning,
            stacklevel=2,
        )
        return float("nan")

    def average_precisions(distances: NDArray, start: int) -> NDArray:
        queries = np.arange(start, start + len(distances))
        distances[np.arange(len(distances)), queries] = np.inf
        nearest = np.argsort(distances, axis=1, kind="stable")[:, : n_relevant.max()]
        rank = np.arange(1, nearest.shape[1] + 1)
        relevant = labels[nearest] == labels[queries, None]
        relevant &= rank <= n_relevant[queries, None]
        precision = np.cumsum(relevant, axis=1) / rank
        return (precision * relevant).sum(axis=1)

    sums = np.concatenate(
        list(pairwise_distances_chunked(embeddings, reduce_func=average_precisions))
    )
    has_partner = n_relevant > 0
    return float(np.mean(sums[has_partner] / n_relevant[has_partner]))
