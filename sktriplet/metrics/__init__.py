"""Metrics of retrieval, verification, and open-set identification.

In retrieval, each sample of ``embeddings`` is a query, which is compared with all other
samples or, if there is one, with a ``reference``. Candidates are ranked by distance, ties by
index. A match is a sample of the query's class; R is the number of matches of a query. The
scores depend on the number of samples and classes that are searched: compare them on the same
data only. Each has a scorer for the ``scoring`` parameter of
:class:`~sklearn.model_selection.GridSearchCV` and
:func:`~sklearn.model_selection.cross_validate`, for estimators with ``transform``.

In verification, pairs of samples have a true label and a score, as in binary classification.

`detection_identification_rate_score` is for identification that may reject samples as unknown.
"""

from sktriplet.metrics._operating_point import detection_identification_rate_score
from sktriplet.metrics._retrieval import (
    cumulative_match_characteristic_curve,
    mean_average_precision_at_r_score,
    mean_average_precision_score,
    mean_reciprocal_rank_score,
    normalized_discounted_cumulative_gain_score,
    precision_at_k_score,
    r_precision_score,
    recall_at_k_score,
)
from sktriplet.metrics._scorers import (
    mean_average_precision_at_r_scorer,
    mean_average_precision_scorer,
    mean_reciprocal_rank_scorer,
    normalized_discounted_cumulative_gain_scorer,
    precision_at_k_scorer,
    r_precision_scorer,
    recall_at_k_scorer,
)
from sktriplet.metrics._verification import (
    equal_error_rate_score,
    false_non_match_rate_score,
)

__all__ = [
    "cumulative_match_characteristic_curve",
    "detection_identification_rate_score",
    "equal_error_rate_score",
    "false_non_match_rate_score",
    "mean_average_precision_at_r_score",
    "mean_average_precision_at_r_scorer",
    "mean_average_precision_score",
    "mean_average_precision_scorer",
    "mean_reciprocal_rank_score",
    "mean_reciprocal_rank_scorer",
    "normalized_discounted_cumulative_gain_score",
    "normalized_discounted_cumulative_gain_scorer",
    "precision_at_k_score",
    "precision_at_k_scorer",
    "r_precision_score",
    "r_precision_scorer",
    "recall_at_k_score",
    "recall_at_k_scorer",
]
