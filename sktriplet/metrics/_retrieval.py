r"""How good an embedding is for retrieval.

Each row of ``embeddings`` is a query. It searches the other rows or, where there is a
``reference``, that, nearest first. Rows at the same distance are ordered by their index.
A match is a row of the query's class; R is how many matches a query has.

Three scores say how well that went, in the definitions of Musgrave et al. [1]_: whether a
match is among the k nearest (recall at k), which part of the R nearest are matches
(R-precision), and how early the matches come among these (mean average precision at R).
Each has a scorer of the same name for ``scoring=`` of
:class:`~sklearn.model_selection.GridSearchCV` and
:func:`~sklearn.model_selection.cross_validate`; it needs an estimator with ``transform``.

`detection_identification_rate_score` is for searches that may also find nobody.

Scores depend on how many rows and classes there are to search: compare like with like.

References
----------
.. [1] Musgrave, Belongie and Lim, "A Metric Learning Reality Check", ECCV 2020.
"""

from numbers import Integral
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sktriplet.metrics._ranking import Search


def recall_at_k_score(
    embeddings: ArrayLike,
    y: ArrayLike,
    *,
    k: int = 1,
    reference: ArrayLike | None = None,
    reference_y: ArrayLike | None = None,
    groups: ArrayLike | None = None,
    reference_groups: ArrayLike | None = None,
    metric: str = "euclidean",
) -> float:
    """Recall at k: the part of the queries that have a match among their k nearest.

    At ``k=1`` this is the accuracy of the nearest neighbour, also called precision at 1
    and, in re-identification, the rank-1 rate; at other k, the cumulative match
    characteristic (CMC).

    Parameters
    ----------
    embeddings : array-like of shape (n_rows, n_components)
        The queries, and unless there is a ``reference``, what they search: a row is
        never its own match.

    y : array-like of shape (n_rows,)
        Their classes.

    k : int, default=1

    reference : array-like of shape (n_reference_rows, n_components), default=None
        What the queries search instead. All of it counts, also rows that are equal to
        the query.

    reference_y : array-like of shape (n_reference_rows,), default=None
        Their classes. Needed with ``reference``.

    groups : array-like of shape (n_rows,), default=None
        Matches of the query's own group are left out, as if they were not there; other
        rows of that group stay. With cameras as groups this is the rule of
        re-identification.

    reference_groups : array-like of shape (n_reference_rows,), default=None
        Needed with both ``groups`` and ``reference``.

    metric : {"euclidean", "cosine"}, default="euclidean"
        As in :func:`sklearn.metrics.pairwise_distances`. On the unit sphere they agree.

    Returns
    -------
    float
        Between 0 and 1, over the queries that have a match; NaN, with an
        ``UndefinedMetricWarning``, if none has.

    See Also
    --------
    mean_average_precision_at_r_score : Looks at all matches.

    Examples
    --------
    >>> from sktriplet.metrics import recall_at_k_score
    >>> embeddings = [[0.0], [1.0], [3.0], [7.0]]
    >>> y = ["a", "b", "a", "b"]
    >>> recall_at_k_score(embeddings, y)
    0.0
    >>> recall_at_k_score(embeddings, y, k=2)
    0.75
    """
    if not isinstance(k, Integral) or isinstance(k, bool) or k < 1:
        raise ValueError(f"k must be an integer >= 1. Got {k!r}.")
    search = Search.of(
        embeddings,
        y,
        reference,
        reference_y,
        groups,
        reference_groups,
        metric,
        name=f"Recall@{k}",
        ordered=False,
    )
    return search.mean_over_queries(
        lambda relevant, _: relevant.any(axis=1), np.full(len(search.n_matches), int(k))
    )


def r_precision_score(
    embeddings: ArrayLike,
    y: ArrayLike,
    *,
    reference: ArrayLike | None = None,
    reference_y: ArrayLike | None = None,
    groups: ArrayLike | None = None,
    reference_groups: ArrayLike | None = None,
    metric: str = "euclidean",
) -> float:
    """R-precision: which part of the R nearest are matches, if R are to be found.

    Parameters
    ----------
    embeddings : array-like of shape (n_rows, n_components)

    y : array-like of shape (n_rows,)

    reference, reference_y, groups, reference_groups, metric
        As in :func:`recall_at_k_score`.

    Returns
    -------
    float
        Between 0 and 1, the mean over the queries that have a match; NaN, with an
        ``UndefinedMetricWarning``, if none has.

    Examples
    --------
    The two outer rows of "a" have one of their two matches nearest, the inner one both:

    >>> from sktriplet.metrics import r_precision_score
    >>> r_precision_score([[0.0], [1.0], [2.5], [3.6]], ["a", "a", "a", "b"])
    0.833...
    """
    search = Search.of(
        embeddings,
        y,
        reference,
        reference_y,
        groups,
        reference_groups,
        metric,
        name="R-precision",
        ordered=False,
    )
    return search.mean_over_queries(
        lambda relevant, n_matches: relevant.sum(axis=1) / n_matches, search.n_matches
    )


def mean_average_precision_at_r_score(
    embeddings: ArrayLike,
    y: ArrayLike,
    *,
    reference: ArrayLike | None = None,
    reference_y: ArrayLike | None = None,
    groups: ArrayLike | None = None,
    reference_groups: ArrayLike | None = None,
    metric: str = "euclidean",
) -> float:
    r"""Mean average precision at R (MAP@R).

    For a query with R matches to be found,

    .. math::
        \frac{1}{R} \sum_{i=1}^{R} P(i),

    where P(i) is the precision among the i nearest if the i-th is a match, and 0 if not.
    The score is the mean over the queries; 1 means that each class stands together and
    apart [1]_.

    Parameters
    ----------
    embeddings : array-like of shape (n_rows, n_components)

    y : array-like of shape (n_rows,)

    reference, reference_y, groups, reference_groups, metric
        As in :func:`recall_at_k_score`.

    Returns
    -------
    float
        Between 0 and 1, the mean over the queries that have a match; NaN, with an
        ``UndefinedMetricWarning``, if none has.

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
    search = Search.of(
        embeddings,
        y,
        reference,
        reference_y,
        groups,
        reference_groups,
        metric,
        name="MAP@R",
        ordered=True,
    )

    def average_precision(relevant: NDArray[np.bool_], n_matches: NDArray[np.int64]) -> NDArray:
        precision = np.cumsum(relevant, axis=1) / np.arange(1, relevant.shape[1] + 1)
        return np.einsum("ij,ij->i", precision, relevant) / n_matches

    return search.mean_over_queries(average_precision, search.n_matches)


def recall_at_k_scorer(
    estimator: Any, X: Any, y: ArrayLike, *, k: int = 1, metric: str = "euclidean"
) -> float:
    """Score ``estimator.transform(X)`` with :func:`recall_at_k_score`.

    Parameters
    ----------
    estimator : fitted transformer

    X : array-like of shape (n_rows, ...)

    y : array-like of shape (n_rows,)

    k : int, default=1
        Another one in a search: ``scoring=functools.partial(recall_at_k_scorer, k=5)``.

    metric : {"euclidean", "cosine"}, default="euclidean"

    Returns
    -------
    float
    """
    return recall_at_k_score(estimator.transform(X), y, k=k, metric=metric)


def r_precision_scorer(estimator: Any, X: Any, y: ArrayLike, *, metric: str = "euclidean") -> float:
    """Score ``estimator.transform(X)`` with :func:`r_precision_score`.

    Parameters
    ----------
    estimator : fitted transformer

    X : array-like of shape (n_rows, ...)

    y : array-like of shape (n_rows,)

    metric : {"euclidean", "cosine"}, default="euclidean"

    Returns
    -------
    float
    """
    return r_precision_score(estimator.transform(X), y, metric=metric)


def mean_average_precision_at_r_scorer(
    estimator: Any, X: Any, y: ArrayLike, *, metric: str = "euclidean"
) -> float:
    """Score ``estimator.transform(X)`` with :func:`mean_average_precision_at_r_score`.

    Parameters
    ----------
    estimator : fitted transformer

    X : array-like of shape (n_rows, ...)

    y : array-like of shape (n_rows,)

    metric : {"euclidean", "cosine"}, default="euclidean"

    Returns
    -------
    float

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
    >>> from sklearn.model_selection import cross_validate
    >>> from sktriplet.metrics import mean_average_precision_at_r_scorer
    >>> from sktriplet.metrics import recall_at_k_scorer
    >>> scores = cross_validate(
    ...     LinearDiscriminantAnalysis(),
    ...     *load_iris(return_X_y=True),
    ...     scoring={
    ...         "map_at_r": mean_average_precision_at_r_scorer,
    ...         "recall_at_1": recall_at_k_scorer,
    ...     },
    ... )
    >>> f"{scores['test_map_at_r'].mean():.1f} {scores['test_recall_at_1'].mean():.1f}"
    '0.9 0.9'
    """
    return mean_average_precision_at_r_score(estimator.transform(X), y, metric=metric)
