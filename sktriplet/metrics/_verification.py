"""Error rates of verification: decisions on whether two samples are of the same class.

A pair is accepted if its score is at least a threshold. In the terms of ISO/IEC 19795-1, the false
match rate (FMR) is the fraction of different-class pairs that are accepted, and the false
non-match rate (FNMR) the fraction of same-class pairs that are rejected.
"""

import warnings
from collections.abc import Iterable, Iterator
from numbers import Real

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.exceptions import UndefinedMetricWarning
from sklearn.utils import check_array, check_consistent_length, column_or_1d
from sklearn.utils._param_validation import validate_params

from sktriplet._parameters import Interval
from sktriplet.metrics._operating_point import max_count_at_rate

Rates = tuple[NDArray[np.float64], NDArray[np.float64]]


@validate_params({}, prefer_skip_nested_validation=True)
def equal_error_rate_score(y_true: ArrayLike, y_score: ArrayLike) -> float:
    """Compute the equal error rate (EER): the value at which FMR and FNMR are equal.

    The false match rate (FMR) and false non-match rate (FNMR) change in steps, so that in general
    no threshold makes them equal. They are interpolated linearly between successive thresholds,
    as in the area under the ROC curve [1]_; the score is where the curve of FNMR over FMR meets
    the diagonal. This is unique, also if pairs of both types have equal scores.

    The threshold of the EER depends on the test pairs. To measure the error rates at a threshold
    that was set before, evaluate predictions.

    Parameters
    ----------
    y_true : array-like of shape (n_pairs,)
        True for pairs of the same class, and False for others; or 1, and 0 or -1.
    y_score : array-like of shape (n_pairs,)
        Scores, larger for more similar samples, such as those returned by
        :meth:`sktriplet.PairVerifier.decision_function`.

    Returns
    -------
    score : float
        Error rate; lower is better. It is 0 if a threshold separates the pairs, 0.5 for random
        scores, and 1 if all decisions are wrong. NaN, with an ``UndefinedMetricWarning``, if all
        pairs have the same label.

    See Also
    --------
    false_non_match_rate_score : FNMR at a maximum FMR.
    sklearn.metrics.det_curve : FMR and FNMR at all thresholds.

    References
    ----------
    .. [1] Fawcett, "An Introduction to ROC Analysis", Pattern Recognition Letters 27(8), 2006.

    Examples
    --------
    The threshold 0.6 rejects one of three same-class pairs, and accepts one of three others:

    >>> from sktriplet.metrics import equal_error_rate_score
    >>> equal_error_rate_score([1, 1, 1, 0, 0, 0], [0.9, 0.8, 0.4, 0.6, 0.3, 0.2])
    0.333...

    A scorer for scikit-learn, in which larger values are better:

    >>> from sklearn.metrics import make_scorer
    >>> scorer = make_scorer(
    ...     equal_error_rate_score, greater_is_better=False, response_method="decision_function"
    ... )
    """
    is_genuine, scores = check_pairs(y_true, y_score)
    if _is_undefined("The equal error rate", is_genuine):
        return float("nan")
    fmr, fnmr = error_rates(is_genuine, scores)
    return interpolate_equal_error_rate(fmr, fnmr)


@validate_params(
    {"max_fmr": [Interval(Real, 0, 1, closed="left")]}, prefer_skip_nested_validation=True
)
def false_non_match_rate_score(
    y_true: ArrayLike, y_score: ArrayLike, *, max_fmr: float = 0.001
) -> float:
    """Compute the false non-match rate (FNMR) at a maximum false match rate (FMR).

    The threshold is the one with the lowest FNMR among those whose FMR, the fraction of
    different-class pairs that are accepted, is at most ``max_fmr``. The score is the fraction of
    same-class pairs that it rejects [1]_, without interpolation. Pairs with equal scores are
    accepted or rejected together.

    One minus the score is also called the true accept rate at this FAR, or the verification rate.
    With fewer than ``1 / max_fmr`` different-class pairs, none of them may be accepted, so a lower
    ``max_fmr`` does not change the score.

    Parameters
    ----------
    y_true : array-like of shape (n_pairs,)
        True for pairs of the same class, and False for others; or 1, and 0 or -1.
    y_score : array-like of shape (n_pairs,)
        Scores, larger for more similar samples, such as those returned by
        :meth:`sktriplet.PairVerifier.decision_function`.
    max_fmr : float, default=0.001
        Maximum false match rate, in the range [0, 1).

    Returns
    -------
    score : float
        Error rate between 0 and 1; lower is better. NaN, with an ``UndefinedMetricWarning``, if
        all pairs have the same label.

    See Also
    --------
    equal_error_rate_score : Where both rates are equal.
    detection_identification_rate_score : The analogous score of identification.

    References
    ----------
    .. [1] ISO/IEC 19795-1:2021, "Biometric performance testing and reporting".

    Examples
    --------
    Of four different-class pairs, one may be accepted. The threshold must exceed 0.5:

    >>> from sktriplet.metrics import false_non_match_rate_score
    >>> false_non_match_rate_score(
    ...     [1, 1, 1, 0, 0, 0, 0], [0.9, 0.6, 0.5, 0.7, 0.5, 0.2, 0.1], max_fmr=0.25
    ... )
    0.333...
    """
    is_genuine, scores = check_pairs(y_true, y_score)
    if _is_undefined("The false non-match rate", is_genuine):
        return float("nan")
    impostors = np.sort(scores[~is_genuine])[::-1]
    first_rejected = impostors[max_count_at_rate(max_fmr, len(impostors))]
    return float(np.mean(scores[is_genuine] <= first_rejected))


def check_pairs(
    y_true: ArrayLike, y_score: ArrayLike, *, names: tuple[str, str] = ("y_true", "y_score")
) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    """Return which pairs are of the same class, and their scores."""
    labels = column_or_1d(y_true)
    scores = check_array(
        column_or_1d(y_score), ensure_2d=False, dtype=np.float64, input_name=names[1]
    )
    check_consistent_length(labels, scores)
    if not (np.isin(labels, [0, 1]).all() or np.isin(labels, [-1, 1]).all()):
        raise ValueError(
            f"{names[0]} must contain only True and False, 1 and 0, or 1 and -1. "
            f"Got {np.unique(labels)[:5].tolist()}."
        )
    return np.asarray(labels == 1), scores


def error_rates(is_genuine: NDArray[np.bool_], scores: NDArray[np.float64]) -> Rates:
    """Return FMR and FNMR, from the lowest score as threshold to one above the highest."""
    (rates,) = weighted_error_rates(is_genuine, scores, [np.ones(len(scores))])
    return rates


def weighted_error_rates(
    is_genuine: NDArray[np.bool_], scores: NDArray[np.float64], weights: Iterable[NDArray]
) -> Iterator[Rates]:
    """Yield FMR and FNMR at all thresholds, from low to high, for each array of weights."""
    thresholds, codes = np.unique(scores, return_inverse=True)
    for weight in weights:
        below = [
            np.append(0, np.cumsum(np.bincount(codes[part], weight[part], len(thresholds))))
            for part in (~is_genuine, is_genuine)
        ]
        impostors, genuine = below
        with np.errstate(invalid="ignore"):  # rates of no pairs are NaN
            rates = (impostors[-1] - impostors) / impostors[-1], genuine / genuine[-1]
        yield rates


def interpolate_equal_error_rate(fmr: NDArray[np.float64], fnmr: NDArray[np.float64]) -> float:
    """Return where linearly interpolated rates, at increasing thresholds, are equal."""
    return float(np.interp(0, fnmr - fmr, fnmr))


def _is_undefined(name: str, is_genuine: NDArray[np.bool_]) -> bool:
    is_undefined = bool(is_genuine.all() or not is_genuine.any())
    if is_undefined:
        warnings.warn(
            f"{name} is undefined and set to NaN: all pairs are of "
            f"{'the same class' if is_genuine.all() else 'different classes'}.",
            UndefinedMetricWarning,
            stacklevel=4,
        )
    return is_undefined
