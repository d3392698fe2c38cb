"""Retrieval scores, and the CMC curve.

All scores depend on the ranks of the matches of each query only. Each is a function of whether the
i-th nearest neighbors of some queries are matches, of shape (n_queries, n_ranks), and of their
numbers of matches, of shape (n_queries,).
"""

import sys
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
AVERAGE = [StrOptions({"samples", "macro"}), None]
ALL_RANKS = sys.maxsize


@validate_params(
    {"k": [Interval(Integral, 1, None, closed="left")], "metric": METRIC, "average": AVERAGE},
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
    average: str | None = "samples",
) -> float | NDArray[np.float64]:
    """Recall at k: fraction of the queries that have a match among their k nearest neighbors.

    With ``k=1`` this is the accuracy of the nearest neighbor, also called precision at 1 and,
    in re-identification, rank-1 rate. In information retrieval, this score is called success
    or hit rate, and recall the fraction of all matches that are found; metric learning uses
    the definition here [1]_. Ties in distance are broken by index.

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
    average : {"samples", "macro"} or None, default="samples"
        ``"samples"`` is the mean over the queries that have a match, and ``"macro"`` the mean
        over classes of the mean over their queries. None returns the score of each query.

    Returns
    -------
    score : float or ndarray of shape (n_samples,)
        Between 0 and 1. With ``average=None``, queries without a match are NaN. NaN, with an
        ``UndefinedMetricWarning``, if no query has a match or if there is only a single class
        to retrieve.

    See Also
    --------
    cumulative_match_characteristic_curve : Recall at all k up to a maximum.
    mean_average_precision_at_r_score : Takes all matches and their ranks into account.

    References
    ----------
    .. [1] Oh Song et al., "Deep Metric Learning via Lifted Structured Feature Embedding",
       CVPR 2016.

    Examples
    --------
    >>> from sktriplet.metrics import recall_at_k_score
    >>> embeddings = [[0.0], [1.0], [3.0], [7.0]]
    >>> y = ["a", "b", "a", "b"]
    >>> recall_at_k_score(embeddings, y)
    0.0
    >>> recall_at_k_score(embeddings, y, k=2)
    0.75
    >>> recall_at_k_score(embeddings, y, k=2, average=None)
    array([1., 0., 1., 1.])
    """
    arrays = embeddings, y, reference, reference_y, groups, reference_groups
    values, labels = _score_queries(
        f"Recall@{k}",
        lambda relevant, _: relevant.any(axis=1),
        arrays,
        metric,
        n_ranks=k,
        ordered=False,
    )
    return _average(values, labels, average)


@validate_params(
    {"k": [Interval(Integral, 1, None, closed="left")], "metric": METRIC, "average": AVERAGE},
    prefer_skip_nested_validation=True,
)
def precision_at_k_score(
    embeddings: ArrayLike,
    y: ArrayLike,
    *,
    k: int = 5,
    reference: ArrayLike | None = None,
    reference_y: ArrayLike | None = None,
    groups: ArrayLike | None = None,
    reference_groups: ArrayLike | None = None,
    metric: str = "euclidean",
    average: str | None = "samples",
) -> float | NDArray[np.float64]:
    """Precision at k: fraction of matches among the k nearest neighbors of a query.

    A query with fewer than k matches cannot reach 1; `r_precision_score` adapts k to the query.
    The denominator is always k, also if there are fewer samples to search [1]_. Ties in
    distance are broken by index.

    Parameters
    ----------
    embeddings : array-like of shape (n_samples, n_components)
        Embeddings of the queries. Without ``reference``, each query searches all others.
    y : array-like of shape (n_samples,)
        Classes of the queries.
    k : int, default=5
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
    average : {"samples", "macro"} or None, default="samples"
        ``"samples"`` is the mean over the queries that have a match, and ``"macro"`` the mean
        over classes of the mean over their queries. None returns the score of each query.

    Returns
    -------
    score : float or ndarray of shape (n_samples,)
        Between 0 and 1. With ``average=None``, queries without a match are NaN. NaN, with an
        ``UndefinedMetricWarning``, if no query has a match or if there is only a single class
        to retrieve.

    See Also
    --------
    r_precision_score : Precision at the number of matches of each query.

    References
    ----------
    .. [1] Manning, Raghavan and Schütze, "Introduction to Information Retrieval", 2008,
       section 8.4.

    Examples
    --------
    >>> from sktriplet.metrics import precision_at_k_score
    >>> embeddings = [[0.0], [1.0], [2.5], [3.6]]
    >>> precision_at_k_score(embeddings, ["a", "a", "a", "b"], k=2, average=None)
    array([1. , 1. , 0.5, nan])
    >>> precision_at_k_score(embeddings, ["a", "a", "a", "b"], k=2)
    0.833...
    """
    arrays = embeddings, y, reference, reference_y, groups, reference_groups
    values, labels = _score_queries(
        f"Precision@{k}",
        lambda relevant, _: relevant.sum(axis=1) / k,
        arrays,
        metric,
        n_ranks=k,
        ordered=False,
    )
    return _average(values, labels, average)


@validate_params({"metric": METRIC, "average": AVERAGE}, prefer_skip_nested_validation=True)
def r_precision_score(
    embeddings: ArrayLike,
    y: ArrayLike,
    *,
    reference: ArrayLike | None = None,
    reference_y: ArrayLike | None = None,
    groups: ArrayLike | None = None,
    reference_groups: ArrayLike | None = None,
    metric: str = "euclidean",
    average: str | None = "samples",
) -> float | NDArray[np.float64]:
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
        of that group are not. With cameras as groups, this is the re-identification protocol.
    reference_groups : array-like of shape (n_reference_samples,), default=None
        Groups of ``reference``. Required with both ``groups`` and ``reference``.
    metric : {"euclidean", "cosine"}, default="euclidean"
        Distance, as in :func:`sklearn.metrics.pairwise_distances`. For embeddings of unit
        length, both rank equally.
    average : {"samples", "macro"} or None, default="samples"
        ``"samples"`` is the mean over the queries that have a match, and ``"macro"`` the mean
        over classes of the mean over their queries. None returns the score of each query.

    Returns
    -------
    score : float or ndarray of shape (n_samples,)
        Between 0 and 1. With ``average=None``, queries without a match are NaN. NaN, with an
        ``UndefinedMetricWarning``, if no query has a match or if there is only a single class
        to retrieve.

    Examples
    --------
    The outer samples of "a" have one of their two matches among the two nearest neighbors,
    the inner one has both:

    >>> from sktriplet.metrics import r_precision_score
    >>> r_precision_score([[0.0], [1.0], [2.5], [3.6]], ["a", "a", "a", "b"])
    0.833...
    """
    arrays = embeddings, y, reference, reference_y, groups, reference_groups
    values, labels = _score_queries(
        "R-precision",
        lambda relevant, n_matches: relevant.sum(axis=1) / n_matches,
        arrays,
        metric,
        ordered=False,
    )
    return _average(values, labels, average)


@validate_params({"metric": METRIC, "average": AVERAGE}, prefer_skip_nested_validation=True)
def mean_average_precision_at_r_score(
    embeddings: ArrayLike,
    y: ArrayLike,
    *,
    reference: ArrayLike | None = None,
    reference_y: ArrayLike | None = None,
    groups: ArrayLike | None = None,
    reference_groups: ArrayLike | None = None,
    metric: str = "euclidean",
    average: str | None = "samples",
) -> float | NDArray[np.float64]:
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
        of that group are not. With cameras as groups, this is the re-identification protocol.
    reference_groups : array-like of shape (n_reference_samples,), default=None
        Groups of ``reference``. Required with both ``groups`` and ``reference``.
    metric : {"euclidean", "cosine"}, default="euclidean"
        Distance, as in :func:`sklearn.metrics.pairwise_distances`. For embeddings of unit
        length, both rank equally.
    average : {"samples", "macro"} or None, default="samples"
        ``"samples"`` is the mean over the queries that have a match, and ``"macro"`` the mean
        over classes of the mean over their queries. None returns the score of each query.

    Returns
    -------
    score : float or ndarray of shape (n_samples,)
        Between 0 and 1. With ``average=None``, queries without a match are NaN. NaN, with an
        ``UndefinedMetricWarning``, if no query has a match or if there is only a single class
        to retrieve.

    See Also
    --------
    mean_average_precision_score : Average precision of the whole ranking.

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
    values, labels = _score_queries("MAP@R", _average_precision, arrays, metric)
    return _average(values, labels, average)


@validate_params({"metric": METRIC, "average": AVERAGE}, prefer_skip_nested_validation=True)
def mean_average_precision_score(
    embeddings: ArrayLike,
    y: ArrayLike,
    *,
    reference: ArrayLike | None = None,
    reference_y: ArrayLike | None = None,
    groups: ArrayLike | None = None,
    reference_groups: ArrayLike | None = None,
    metric: str = "euclidean",
    average: str | None = "samples",
) -> float | NDArray[np.float64]:
    r"""Mean average precision (mAP) of the whole ranking.

    For a query with matches at the ranks :math:`r_1 < ... < r_R`, the average precision is

    .. math::
        \frac{1}{R} \sum_{j=1}^{R} \frac{j}{r_j},

    without interpolation, as in :func:`sklearn.metrics.average_precision_score` and in the
    TREC evaluations [1]_. The score is the mean over the queries. Ties in distance are broken
    by index.

    With cameras as ``groups``, this is the mAP of re-identification [2]_. Images that a data
    set marks as junk are to be left out of ``reference``; distractors keep a class of their
    own. The original code of [2]_ interpolates the precision linearly between ranks, which
    changes the score slightly.

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
        of that group are not. With cameras as groups, this is the re-identification protocol.
    reference_groups : array-like of shape (n_reference_samples,), default=None
        Groups of ``reference``. Required with both ``groups`` and ``reference``.
    metric : {"euclidean", "cosine"}, default="euclidean"
        Distance, as in :func:`sklearn.metrics.pairwise_distances`. For embeddings of unit
        length, both rank equally.
    average : {"samples", "macro"} or None, default="samples"
        ``"samples"`` is the mean over the queries that have a match, and ``"macro"`` the mean
        over classes of the mean over their queries. None returns the score of each query.

    Returns
    -------
    score : float or ndarray of shape (n_samples,)
        Between 0 and 1. With ``average=None``, queries without a match are NaN. NaN, with an
        ``UndefinedMetricWarning``, if no query has a match or if there is only a single class
        to retrieve.

    See Also
    --------
    mean_average_precision_at_r_score : Ignores matches beyond rank R.

    References
    ----------
    .. [1] Buckley and Voorhees, "Evaluating Evaluation Measure Stability", SIGIR 2000.
    .. [2] Zheng et al., "Scalable Person Re-identification: A Benchmark", ICCV 2015.

    Examples
    --------
    The matches are at the ranks 1 and 3, hence (1/1 + 2/3) / 2:

    >>> from sktriplet.metrics import mean_average_precision_score
    >>> mean_average_precision_score(
    ...     [[0.0]], ["a"], reference=[[1.0], [2.0], [3.0]], reference_y=["a", "b", "a"]
    ... )
    0.833...
    """
    arrays = embeddings, y, reference, reference_y, groups, reference_groups
    values, labels = _score_queries(
        "Mean average precision", _average_precision, arrays, metric, n_ranks=ALL_RANKS
    )
    return _average(values, labels, average)


@validate_params({"metric": METRIC, "average": AVERAGE}, prefer_skip_nested_validation=True)
def mean_reciprocal_rank_score(
    embeddings: ArrayLike,
    y: ArrayLike,
    *,
    reference: ArrayLike | None = None,
    reference_y: ArrayLike | None = None,
    groups: ArrayLike | None = None,
    reference_groups: ArrayLike | None = None,
    metric: str = "euclidean",
    average: str | None = "samples",
) -> float | NDArray[np.float64]:
    """Mean reciprocal rank (MRR): mean of 1 / r, where r is the rank of the first match.

    It measures how soon a user who reads the results in order finds one match [1]_. Ties in
    distance are broken by index.

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
        of that group are not. With cameras as groups, this is the re-identification protocol.
    reference_groups : array-like of shape (n_reference_samples,), default=None
        Groups of ``reference``. Required with both ``groups`` and ``reference``.
    metric : {"euclidean", "cosine"}, default="euclidean"
        Distance, as in :func:`sklearn.metrics.pairwise_distances`. For embeddings of unit
        length, both rank equally.
    average : {"samples", "macro"} or None, default="samples"
        ``"samples"`` is the mean over the queries that have a match, and ``"macro"`` the mean
        over classes of the mean over their queries. None returns the score of each query.

    Returns
    -------
    score : float or ndarray of shape (n_samples,)
        Between 0 and 1. With ``average=None``, queries without a match are NaN. NaN, with an
        ``UndefinedMetricWarning``, if no query has a match or if there is only a single class
        to retrieve.

    See Also
    --------
    recall_at_k_score : Fraction of queries whose first match has at most rank k.

    References
    ----------
    .. [1] Voorhees, "The TREC-8 Question Answering Track Report", TREC 1999.

    Examples
    --------
    The first match of both "a" is at rank 3, and that of both "b" at rank 2:

    >>> from sktriplet.metrics import mean_reciprocal_rank_score
    >>> mean_reciprocal_rank_score([[0.0], [1.0], [3.0], [2.5]], ["a", "b", "a", "b"])
    0.416...
    """
    arrays = embeddings, y, reference, reference_y, groups, reference_groups
    values, labels = _score_queries(
        "Mean reciprocal rank",
        lambda relevant, _: 1 / _first_rank(relevant),
        arrays,
        metric,
        n_ranks=ALL_RANKS,
    )
    return _average(values, labels, average)


@validate_params(
    {"k": [Interval(Integral, 1, None, closed="left"), None], "metric": METRIC, "average": AVERAGE},
    prefer_skip_nested_validation=True,
)
def normalized_discounted_cumulative_gain_score(
    embeddings: ArrayLike,
    y: ArrayLike,
    *,
    k: int | None = None,
    reference: ArrayLike | None = None,
    reference_y: ArrayLike | None = None,
    groups: ArrayLike | None = None,
    reference_groups: ArrayLike | None = None,
    metric: str = "euclidean",
    average: str | None = "samples",
) -> float | NDArray[np.float64]:
    r"""NDCG: normalized discounted cumulative gain, with binary relevance.

    For a query with R matches, at the ranks :math:`r_1 < r_2 < ...`, the gain is

    .. math::
        \sum_{j: r_j \leq k} \frac{1}{\log_2(1 + r_j)} \bigg/
        \sum_{i=1}^{\min(R, k)} \frac{1}{\log_2(1 + i)},

    which is 1 if the matches are ranked first [1]_. The score is the mean over the queries.
    Ties in distance are broken by index, whereas :func:`sklearn.metrics.ndcg_score`, which
    takes graded relevance and a matrix of all pairs, averages over the orders of ties.

    Parameters
    ----------
    embeddings : array-like of shape (n_samples, n_components)
        Embeddings of the queries. Without ``reference``, each query searches all others.
    y : array-like of shape (n_samples,)
        Classes of the queries.
    k : int, default=None
        Number of nearest neighbors that contribute. None means all.
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
    average : {"samples", "macro"} or None, default="samples"
        ``"samples"`` is the mean over the queries that have a match, and ``"macro"`` the mean
        over classes of the mean over their queries. None returns the score of each query.

    Returns
    -------
    score : float or ndarray of shape (n_samples,)
        Between 0 and 1. With ``average=None``, queries without a match are NaN. NaN, with an
        ``UndefinedMetricWarning``, if no query has a match or if there is only a single class
        to retrieve.

    References
    ----------
    .. [1] Järvelin and Kekäläinen, "Cumulated Gain-Based Evaluation of IR Techniques",
       ACM TOIS 20(4), 2002.

    Examples
    --------
    >>> from sktriplet.metrics import normalized_discounted_cumulative_gain_score
    >>> normalized_discounted_cumulative_gain_score(
    ...     [[0.0]], ["a"], reference=[[1.0], [2.0], [3.0]], reference_y=["a", "b", "a"]
    ... )
    0.919...
    """
    arrays = embeddings, y, reference, reference_y, groups, reference_groups
    name, n_ranks = ("NDCG", ALL_RANKS) if k is None else (f"NDCG@{k}", k)
    values, labels = _score_queries(name, _discounted_gain, arrays, metric, n_ranks=n_ranks)
    return _average(values, labels, average)


@validate_params(
    {"max_rank": [Interval(Integral, 1, None, closed="left")], "metric": METRIC},
    prefer_skip_nested_validation=True,
)
def cumulative_match_characteristic_curve(
    embeddings: ArrayLike,
    y: ArrayLike,
    *,
    max_rank: int = 20,
    reference: ArrayLike | None = None,
    reference_y: ArrayLike | None = None,
    groups: ArrayLike | None = None,
    reference_groups: ArrayLike | None = None,
    metric: str = "euclidean",
) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """Cumulative match characteristic (CMC): recall at k as a function of k.

    It is the fraction of the queries whose first match has at most rank k [1]_, with all
    matches of a query in the gallery. Protocols that draw one gallery image per class, such as
    that of CUHK03, give other values. Ties in distance are broken by index.

    Parameters
    ----------
    embeddings : array-like of shape (n_samples, n_components)
        Embeddings of the queries. Without ``reference``, each query searches all others.
    y : array-like of shape (n_samples,)
        Classes of the queries.
    max_rank : int, default=20
        Largest k, reduced to the number of samples that are searched.
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
    ranks : ndarray of shape (n_ranks,)
        The ranks 1, 2, ... up to ``max_rank``.
    recall : ndarray of shape (n_ranks,)
        Recall at these ranks, over the queries that have a match. NaN, with an
        ``UndefinedMetricWarning``, if no query has a match or if there is only a single class
        to retrieve.

    See Also
    --------
    recall_at_k_score : Recall at one k.
    sktriplet.display.CumulativeMatchDisplay : Plots the curve.

    References
    ----------
    .. [1] Grother, Micheals and Phillips, "Face Recognition Vendor Test 2002 Performance
       Metrics", AVBPA 2003.

    Examples
    --------
    >>> from sktriplet.metrics import cumulative_match_characteristic_curve
    >>> embeddings = [[0.0], [1.0], [3.0], [7.0]]
    >>> ranks, recall = cumulative_match_characteristic_curve(embeddings, ["a", "b", "a", "b"])
    >>> ranks, recall
    (array([1, 2, 3, 4]), array([0.  , 0.75, 1.  , 1.  ]))
    """
    arrays = embeddings, y, reference, reference_y, groups, reference_groups
    first_ranks, _ = _score_queries(
        "The cumulative match characteristic",
        lambda relevant, _: _first_rank(relevant),
        arrays,
        metric,
        n_ranks=max_rank,
    )
    n_references = np.shape(embeddings if reference is None else reference)[0]
    ranks = np.arange(1, min(max_rank, n_references) + 1)
    first_ranks = np.sort(first_ranks[~np.isnan(first_ranks)])
    if not len(first_ranks):
        return ranks, np.full(len(ranks), np.nan)
    return ranks, np.searchsorted(first_ranks, ranks, side="right") / len(first_ranks)


def _score_queries(
    name: str,
    score: Callable[[NDArray[np.bool_], NDArray[np.intp]], Any],
    arrays: tuple,
    metric: str,
    *,
    n_ranks: int | None = None,
    ordered: bool = True,
) -> tuple[NDArray[np.float64], NDArray[np.intp]]:
    """Return the score of each query, NaN if it has no match, and the classes of the queries.

    ``n_ranks`` is the number of nearest neighbors that the score depends on, by default the
    number of matches of the query. ``ordered`` indicates whether their order matters.
    """
    ranking = NeighborRanking.from_arrays(*arrays, metric=metric, ordered=ordered)
    n_matches = ranking.n_matches
    values = np.full(len(n_matches), np.nan)
    if reason := _reason_if_undefined(ranking):
        warnings.warn(
            f"{name} is undefined and set to NaN: {reason}.",
            UndefinedMetricWarning,
            stacklevel=4,
        )
        return values, ranking.query_labels
    if n_ranks is None:
        ranks = n_matches
    else:
        ranks = np.full(len(n_matches), min(n_ranks, len(ranking.references)))
    queries = np.flatnonzero(n_matches)
    # Sorted by rank, as the largest number of ranks in a chunk sets the size of its arrays.
    queries = queries[np.argsort(ranks[queries], kind="stable")]
    for chunk, relevant in ranking.relevance_by_rank(queries, ranks):
        values[chunk] = score(relevant, n_matches[chunk])
    return values, ranking.query_labels


def _average(
    values: NDArray[np.float64], labels: NDArray[np.intp], average: str | None
) -> float | NDArray[np.float64]:
    if average is None:
        return values
    is_defined = ~np.isnan(values)
    if not is_defined.any():
        return float("nan")
    values = values[is_defined]
    if average == "macro":
        labels = np.unique(labels[is_defined], return_inverse=True)[1]
        values = np.bincount(labels, values) / np.bincount(labels)
    return float(np.mean(values))


def _reason_if_undefined(ranking: NeighborRanking) -> str:
    searched = "y" if ranking.searches_itself else "reference_y"
    if not ranking.n_matches.any():
        outside = "" if ranking.query_exclusions is None else " outside its group"
        return f"no query has a match in {searched}{outside}"
    if (ranking.reference_labels == ranking.reference_labels[0]).all():
        return (
            f"{searched} has a single class, so all neighbors are matches. Use a splitter that "
            "keeps several classes in each part, such as StratifiedKFold or GroupKFold"
        )
    return ""


def _first_rank(relevant: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return the rank of the first match, infinite if there is none among the ranks."""
    return np.where(relevant.any(axis=1), relevant.argmax(axis=1) + 1.0, np.inf)


def _average_precision(
    relevant: NDArray[np.bool_], n_matches: NDArray[np.intp]
) -> NDArray[np.float64]:
    queries, ranks = _match_ranks(relevant)
    n_found = np.bincount(queries, minlength=len(relevant))
    n_before = np.cumsum(n_found) - n_found  # matches of the previous queries
    precision = (np.arange(1, len(ranks) + 1) - n_before[queries]) / ranks
    return np.bincount(queries, precision, minlength=len(relevant)) / n_matches


def _discounted_gain(
    relevant: NDArray[np.bool_], n_matches: NDArray[np.intp]
) -> NDArray[np.float64]:
    """Return the gain, relative to that of a ranking that starts with all matches."""
    queries, ranks = _match_ranks(relevant)
    discounts = 1 / np.log2(np.arange(2, relevant.shape[1] + 2))
    gains = np.bincount(queries, discounts[ranks - 1], minlength=len(relevant))
    return gains / np.cumsum(discounts)[np.minimum(n_matches, len(discounts)) - 1]


def _match_ranks(relevant: NDArray[np.bool_]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return the query and the rank of each match, in order."""
    queries, columns = np.divmod(np.flatnonzero(relevant), relevant.shape[1])
    return queries, columns + 1
