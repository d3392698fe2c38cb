"""Scorers of transformers, for the ``scoring`` parameter of scikit-learn."""

from collections.abc import Callable
from typing import Any

from numpy.typing import ArrayLike

from sktriplet.metrics._retrieval import (
    mean_average_precision_at_r_score,
    mean_average_precision_score,
    mean_reciprocal_rank_score,
    normalized_discounted_cumulative_gain_score,
    precision_at_k_score,
    r_precision_score,
    recall_at_k_score,
)

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
>>> import numpy as np
>>> from sklearn.preprocessing import StandardScaler
>>> from sktriplet.metrics import {score}r
>>> X, y = np.r_[0:6, 20:26][:, None], np.repeat(["a", "b"], 6)
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
precision_at_k_scorer = _make_scorer(precision_at_k_score)
r_precision_scorer = _make_scorer(r_precision_score)
mean_average_precision_at_r_scorer = _make_scorer(mean_average_precision_at_r_score)
mean_average_precision_scorer = _make_scorer(mean_average_precision_score)
mean_reciprocal_rank_scorer = _make_scorer(mean_reciprocal_rank_score)
normalized_discounted_cumulative_gain_scorer = _make_scorer(
    normalized_discounted_cumulative_gain_score
)
