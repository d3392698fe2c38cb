"""Retrieval scores and scorers."""

import warnings
from collections.abc import Callable
from numbers import Integral
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.exceptions import UndefinedMetricWarning
from sklearn.utils._param_validation import StrOptions, validate_params

from sktriplet._parameters import Interval
from sktriplet.metrics._ranking import NeighborRanking

METRIC = [StrOptions({"euclidean", "cosine"})]


@validate_params(
    {"k": [Interval(Integral, 1, None, closed="left")], "metric": METRIC},
    prefer_skip_nested_validation=True,
)
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
    """Recall at k: fraction of the queries that have a match among their k nearest neighbors.

    With ``k=1`` this is the accuracy of the nearest neighbor, also called precision at 1 and,
    in re-identification, rank-1 rate; as a function of k it is the cumulative match
    characteristic (CMC). Ties in distance are broken by index.

    Parameters
    ----------
    embeddings : array-like of shape (n_samples, n_components)
        Embeddings of the queries. Without ``reference``, each query searches all others.
    y : array-like of shape (n_samples,)
        Classes of the queries.
    k : int, default=1
        Number of nearest neighbors.
    reference : array-like of shape (n_reference_samples, n_components), default=None
        Embeddings to search instead. Samples that equal the query are not excluded.
    reference_y : array-like of shape (n_reference_samples,), default=None
        Classes of ``reference``. Required with ``reference``.
    groups : array-like of shape (n_samples,), default=None
        Groups of the queries. Matches of the query's own group are excluded; other samples
        of that group are not. With cameras as groups, this is the re-identification protocol.
    reference_groups : array-like of shape (n_reference_samples,), default=None
        Groups of ``reference``. Required with both ``groups`` and ``reference``.
    metric : {"euclidean", "cosine"}, default="euclidean"
        Distance, as in :func:`sklearn.metrics.pairwise_distances`. For embeddings of unit
        length, both rank equally.

    Returns
    -------
    score : float
        Score between 0 and 1, over the queries that have a match. NaN, with an
        ``UndefinedMetricWarning``, if there are none or only a single class to retrieve.

    See Also
    --------
    mean_average_precision_at_r_score : Takes all matches and their ranks into account.

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
    arrays = embeddings, y, reference, reference_y, groups, reference_groups
    return _mean_over_queries(
        f"Recall@{k}", lambda relevant, _: relevant.any(axis=1), arrays, metric, k
    )


@validate_params({"metric": METRIC}, prefer_skip_nested_validation=True)
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
    """R-precision: fraction of matches among the R nearest neighbors of a query with R matches.

    Ties in distance are broken by index.

    Parameters
    ----------
    embeddings : array-like of shape (n_samples, n_components)
        Embeddings of the queries. Without ``reference``, each query searches all others.
    y : array-like of shape (n_samples,)
        Classes of the queries.
    reference : array-like of shape (n_reference_samples, n_components), default=None
        Embeddings to search instead. Samples that equal the query are not excluded.
    reference_y : array-like of shape (n_reference_samples,), default=None
        Classes of ``reference``. Required with ``reference``.
    groups : array-like of shape (n_samples,), default=None
        Groups of the queries. Matches of the query's own group are excluded; other samples
        of that group are not.
    reference_groups : array-like of shape (n_reference_samples,), default=None
        Groups of ``reference``. Required with both ``groups`` and ``reference``.
    metric : {"euclidean", "cosine"}, default="euclidean"
        Distance, as in :func:`sklearn.metrics.pairwise_distances`.

    Returns
    -------
    score : float
        Mean between 0 and 1 over the queries that have a match. NaN, with an
        ``UndefinedMetricWarning``, if there are none or only a single class to retrieve.

    Examples
    --------
    The outer samples of "a" have one of their two matches among the two nearest neighbors,
    the inner one has both:

    >>> from sktriplet.metrics import r_precision_score
    >>> r_precision_score([[0.0], [1.0], [2.5], [3.6]], ["a", "a", "a", "b"])
    0.833...
    """
    arrays = embeddings, y, reference, reference_y, groups, reference_groups
    return _mean_over_queries(
        "R-precision", lambda relevant, n_matches: relevant.sum(axis=1) / n_matches, arrays, metric
    )


@validate_params({"metric": METRIC}, prefer_skip_nested_validation=True)
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

    For a query with R matches, the average precision is

    .. math::
        \frac{1}{R} \sum_{i=1}^{R} P(i),

    where P(i) is the precision among the i nearest neighbors if the i-th is a match, and 0
    otherwise. The score is the mean over the queries; it is 1 if all classes are compact and
    well separated [1]_. Ties in distance are broken by index.

    Parameters
    ----------
    embeddings : array-like of shape (n_samples, n_components)
        Embeddings of the queries. Without ``reference``, each query searches all others.
    y : array-like of shape (n_samples,)
        Classes of the queries.
    reference : array-like of shape (n_reference_samples, n_components), default=None
        Embeddings to search instead. Samples that equal the query are not excluded.
    reference_y : array-like of shape (n_reference_samples,), default=None
        Classes of ``reference``. Required with ``reference``.
    groups : array-like of shape (n_samples,), default=None
        Groups of the queries. Matches of the query's own group are excluded; other samples
        of that group are not.
    reference_groups : array-like of shape (n_reference_samples,), default=None
        Groups of ``reference``. Required with both ``groups`` and ``reference``.
    metric : {"euclidean", "cosine"}, default="euclidean"
        Distance, as in :func:`sklearn.metrics.pairwise_distances`.

    Returns
    -------
    score : float
        Mean between 0 and 1 over the queries that have a match. NaN, with an
        ``UndefinedMetricWarning``, if there are none or only a single class to retrieve.

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
    arrays = embeddings, y, reference, reference_y, groups, reference_groups
    return _mean_over_queries("MAP@R", _average_precision, arrays, metric, ordered=True)


def _mean_over_queries(
    name: str,
    score: Callable[[NDArray[np.bool_], NDArray[np.intp]], Any],
    arrays: tuple,
    metric: str,
    k: int | None = None,
    *,
    ordered: bool = False,
) -> float:
    """Return the mean score of the queries that have a match.

    The score is called with whether the i-th nearest neighbors of some queries are matches,
    of shape (n_queries, n_ranks), and with their numbers of matches. ``k`` is the number of
    ranks, by default that of matches. ``ordered`` indicates whether their order matters.
    """
    ranking = NeighborRanking.from_arrays(*arrays, metric=metric, ordered=ordered)
    n_matches = ranking.n_matches
    queries = np.flatnonzero(n_matches)
    searched = "y" if ranking.searches_itself else "reference_y"
    reason = ""
    if not len(queries):
        outside = "" if ranking.query_exclusions is None else " outside its group"
        reason = f"no query has a match in {searched}{outside}"
    elif (ranking.reference_labels == ranking.reference_labels[0]).all():
        reason = (
            f"{searched} has a single class, so all neighbors are matches. Use a splitter that "
            "keeps several classes in each part, such as StratifiedKFold or GroupKFold"
        )
    if reason:
        warnings.warn(
            f"{name} is undefined and set to NaN: {reason}.",
            UndefinedMetricWarning,
            stacklevel=4,
        )
        return float("nan")
    n_ranks = n_matches if k is None else np.full(len(n_matches), min(k, len(ranking.references)))
    # Sorted by rank, as the largest number of ranks in a chunk sets the size of its arrays.
    queries = queries[np.argsort(n_ranks[queries], kind="stable")]
    chunks = ranking.relevance_by_rank(queries, n_ranks)
    scores = [score(relevant, n_matches[chunk]) for chunk, relevant in chunks]
    return float(np.mean(np.concatenate(scores)))


def _average_precision(relevant: NDArray[np.bool_], n_matches: NDArray[np.intp]) -> NDArray:
    precision = np.cumsum(relevant, axis=1) / np.arange(1, relevant.shape[1] + 1)
    return np.einsum("ij,ij->i", precision, relevant) / n_matches


SCORER_DOCSTRING = """Score ``estimator.transform(X)`` with :func:`{score}`.

Parameters
----------
estimator : transformer
    Fitted transformer.
X : array-like of shape (n_samples, ...)
    Samples to transform.
y : array-like of shape (n_samples,)
    Class labels.
**parameters : dict
    Keyword arguments of the score. To set them in a search or in cross-validation, use
    :func:`functools.partial`.

Returns
-------
score : float
    Score between 0 and 1. NaN, with an ``UndefinedMetricWarning``, if no sample has a match
    or if there is a single class.

Examples
--------
>>> from sklearn.preprocessing import StandardScaler
>>> from sktriplet.metrics import {score}r
>>> X, y = [[0.0], [1.0], [10.0], [11.0]], ["a", "a", "b", "b"]
>>> {score}r(StandardScaler().fit(X), X, y)
1.0
"""


def _make_scorer(score: Callable[..., float]) -> Callable[..., float]:
    def scorer(estimator: Any, X: Any, y: ArrayLike, **parameters: Any) -> float:
        return score(estimator.transform(X), y, **parameters)

    # Names by which the function is pickled.
    scorer.__name__ = scorer.__qualname__ = f"{score.__name__}r"
    scorer.__doc__ = SCORER_DOCSTRING.format(score=score.__name__)
    return scorer


recall_at_k_scorer = _make_scorer(recall_at_k_score)
r_precision_scorer = _make_scorer(r_precision_score)
mean_average_precision_at_r_scorer = _make_scorer(mean_average_precision_at_r_score)
