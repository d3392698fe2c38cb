"""Metrics of retrieval and of open-set identification.

In retrieval, each sample of ``embeddings`` is a query, which is compared with all other
samples or, if there is one, with a ``reference``. Candidates are ranked by distance, ties by
index. A match is a sample of the query's class; R is the number of matches of a query.

The scores follow Musgrave et al. [1]_: recall at k (whether a match is among the k nearest
neighbors), R-precision (the fraction of matches among the R nearest neighbors), and mean
average precision at R (which also rewards early matches). They depend on the number of samples
and classes that are searched: compare them on the same data only.

Each has a scorer for the ``scoring`` parameter of :class:`~sklearn.model_selection.GridSearchCV`
and :func:`~sklearn.model_selection.cross_validate`, for estimators with ``transform``.

`detection_identification_rate_score` is for identification that may reject samples as unknown.

References
----------
.. [1] Musgrave, Belongie and Lim, "A Metric Learning Reality Check", ECCV 2020.
"""

from sktriplet.metrics._operating_point import detection_identification_rate_score
from sktriplet.metrics._retrieval import (
    mean_average_precision_at_r_score,
    mean_average_precision_at_r_scorer,
    r_precision_score,
    r_precision_scorer,
    recall_at_k_score,
    recall_at_k_scorer,
)

__all__ = [
    "detection_identification_rate_score",
    "mean_average_precision_at_r_score",
    "mean_average_precision_at_r_scorer",
    "r_precision_score",
    "r_precision_scorer",
    "recall_at_k_score",
    "recall_at_k_scorer",
]
