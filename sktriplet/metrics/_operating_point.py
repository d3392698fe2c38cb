"""TODO."""

import warnings

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.exceptions import UndefinedMetricWarning
from sklearn.utils import (
    check_consistent_length,
    column_or_1d,
)


def detection_identification_rate_score(
    y: ArrayLike,
    identities: ArrayLike,
    distances: ArrayLike,
    *,
    enrolled: ArrayLike,
    target_fpir: float = 0.05,
) -> float:
    """Measure how many are identified where so many strangers may be.

    This is the detection and identification rate at a false positive identification rate
    (DIR at FPIR) [1]_. Rows of classes that are not enrolled are strangers. The threshold is
    the largest at which no larger part of them than ``target_fpir`` is identified as
    someone. The score is the part of the other rows that are identified at that
    threshold, and rightly.

    Parameters
    ----------
    y : array-like of shape (n_rows,)
        What the rows are.

    identities : array-like of shape (n_rows,)
        The class of the nearest of the enrolled, however far.

    distances : array-like of shape (n_rows,)
        And how far it is.

    enrolled : array-like of shape (n_classes,)

    target_fpir : float, default=0.05

    Returns
    -------
    float
        Between 0 and 1; NaN, with an ``UndefinedMetricWarning``, if there are only
        strangers or none.

    References
    ----------
    .. [1] Phillips, Grother and Micheals, "Evaluation Methods in Face Recognition",
       Handbook of Face Recognition, 2011.

    Examples
    --------
    The first stranger, at 2, may not be identified, and so neither is the last "b":

    >>> from sktriplet.metrics import detection_identification_rate_score
    >>> detection_identification_rate_score(
    ...     ["a", "a", "b", "b", "x", "y"],
    ...     ["a", "b", "b", "b", "a", "b"],
    ...     [1.0, 1.0, 1.5, 3.0, 2.0, 4.0],
    ...     enrolled=["a", "b"],
    ... )
    0.5
    """
    if not 0 <= target_fpir < 1:
        raise ValueError(f"target_fpir must be a number >= 0 and < 1. Got {target_fpir!r}.")
    check_consistent_length(y, identities, distances)
    labels, named, far = (column_or_1d(part) for part in (y, identities, distances))
    is_enrolled = np.isin(labels, column_or_1d(enrolled))
    if is_enrolled.all() or not is_enrolled.any():
        warnings.warn(
            "The detection and identification rate is undefined and set to NaN: "
            f"{'no row' if is_enrolled.all() else 'every row'} is of a class not enrolled.",
            UndefinedMetricWarning,
            stacklevel=2,
        )
        return float("nan")
    strangers = np.sort(far[~is_enrolled])
    rejected = strangers[most_within(target_fpir, len(strangers))]
    identified = (named == labels) & (far < rejected)
    return float(np.mean(identified[is_enrolled]))


def most_within(rate: float, n: int) -> int:
    """Return how many of n are no larger a part of them than the rate.

    Examples
    --------
    >>> from sktriplet.metrics._operating_point import most_within
    >>> most_within(0.29, 100), int(0.29 * 100)
    (29, 28)
    """
    return int(rate * n * (1 + 1e-12))


def threshold_at(rate: float, distances: NDArray) -> float:
    """Return a threshold that as many distances as possible, and no larger part, are within.

    Raises
    ------
    ValueError
        If more are at distance zero.
    """
    distances = np.sort(distances).astype(float)
    beyond = distances[most_within(rate, len(distances))]
    if beyond == 0:
        raise ValueError(
            f"No threshold keeps the rate of false positives to {rate}: a larger part of those "
            "held out is at distance zero."
        )
    return float((distances[distances < beyond].max(initial=0) + beyond) / 2)
