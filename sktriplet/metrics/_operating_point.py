"""Thresholds at a target false positive rate, and the scores measured at them."""

import math
import warnings
from numbers import Real

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.exceptions import UndefinedMetricWarning
from sklearn.utils import assert_all_finite, check_consistent_length, column_or_1d
from sklearn.utils._param_validation import validate_params

from sktriplet._labels import check_labels, concatenate_labels
from sktriplet._parameters import Interval

# Relative rounding error to ignore: 0.29 * 100 is slightly less than 29.
RATE_TOLERANCE = 1e-12


@validate_params(
    {"target_fpir": [Interval(Real, 0, 1, closed="left")]}, prefer_skip_nested_validation=True
)
def detection_identification_rate_score(
    y: ArrayLike,
    identities: ArrayLike,
    distances: ArrayLike,
    *,
    enrolled: ArrayLike,
    target_fpir: float = 0.05,
) -> float:
    """Compute the detection and identification rate (DIR) at a target false positive rate.

    Samples of classes that are not enrolled are impostors. The threshold is the largest
    distance at which the fraction of impostors that are identified, the false positive
    identification rate (FPIR), is at most ``target_fpir``. The score is the fraction of the
    other samples that are within the threshold and correctly identified [1]_.

    Parameters
    ----------
    y : array-like of shape (n_samples,)
        True classes.
    identities : array-like of shape (n_samples,)
        Class of the nearest enrolled sample, regardless of distance.
    distances : array-like of shape (n_samples,)
        Distance to that sample.
    enrolled : array-like of shape (n_classes,)
        Enrolled classes.
    target_fpir : float, default=0.05
        Maximum fraction of impostors that are identified, in the range [0, 1).

    Returns
    -------
    score : float
        Score between 0 and 1. NaN, with an ``UndefinedMetricWarning``, if there are no
        impostors or only impostors.

    See Also
    --------
    sktriplet.OpenSetClassifier.identify : Returns ``identities`` and ``distances``.

    References
    ----------
    .. [1] Phillips, Grother and Micheals, "Evaluation Methods in Face Recognition",
       Handbook of Face Recognition, 2011.

    Examples
    --------
    The nearest impostor, at distance 2, must be rejected. This also rejects the last "b":

    >>> from sktriplet.metrics import detection_identification_rate_score
    >>> detection_identification_rate_score(
    ...     ["a", "a", "b", "b", "x", "y"],
    ...     ["a", "b", "b", "b", "a", "b"],
    ...     [1.0, 1.0, 1.5, 3.0, 2.0, 4.0],
    ...     enrolled=["a", "b"],
    ... )
    0.5
    """
    check_consistent_length(y, identities, distances)
    distances = np.asarray(column_or_1d(distances))
    assert_all_finite(distances, input_name="distances")
    named = {"y": y, "identities": identities, "enrolled": enrolled}
    columns = [check_labels(values, name) for name, values in named.items()]
    if len({column.dtype.kind in "US" for column in columns if column.dtype != object}) > 1:
        types = ", ".join(str(column.dtype) for column in columns)
        raise ValueError(f"y, identities and enrolled must have comparable types. Got {types}.")
    codes = np.unique(concatenate_labels(*columns), return_inverse=True)[1]
    labels, predicted, enrolled = np.split(codes, [len(distances), 2 * len(distances)])
    is_impostor = ~np.isin(labels, enrolled)
    if is_impostor.all() or not is_impostor.any():
        warnings.warn(
            "The detection and identification rate is undefined and set to NaN: "
            f"{'all' if is_impostor.any() else 'no'} samples are impostors.",
            UndefinedMetricWarning,
            stacklevel=3,
        )
        return float("nan")
    is_accepted = distances < _first_rejected(distances[is_impostor], target_fpir)
    return float(np.mean((is_accepted & (predicted == labels))[~is_impostor]))


def threshold_at_fpr(distances: NDArray, rate: float) -> float:
    """Return the threshold with the most false positives that the rate permits.

    It is the midpoint of two successive distances of negatives, or of zero and the smallest.
    """
    distances = distances.astype(float)  # single precision may have no number in between
    rejected = _first_rejected(distances, rate)
    if rejected == 0:
        raise ValueError(
            f"No threshold has a false positive rate of at most {rate}: a larger fraction of the "
            "held-out distances is zero."
        )
    return float((distances[distances < rejected].max(initial=0) + rejected) / 2)


def max_count_at_rate(rate: float, n: int) -> int:
    """Return the largest count whose fraction of n is at most the rate."""
    return int(rate * n * (1 + RATE_TOLERANCE))


def check_rate_is_measurable(
    parameter: str, rate: float, n_samples: int, owner: object, *, samples_per_trial: int = 1
) -> None:
    """Check that the rate, a parameter of the owner, permits a false positive.

    With ``samples_per_trial=2``, trials are pairs of held-out samples that share no sample.
    """
    if not max_count_at_rate(rate, n_samples // samples_per_trial):
        needed = samples_per_trial * math.ceil((1 - RATE_TOLERANCE) / rate)
        raise ValueError(
            f"The {parameter!r} parameter of {type(owner).__name__} is too low to be measured on "
            f"{n_samples} held-out samples. Got {rate}, which needs at least {needed} samples."
        )


def _first_rejected(distances: NDArray, rate: float) -> float:
    """Return the smallest distance of a negative that the rate does not permit to accept."""
    return np.sort(distances)[max_count_at_rate(rate, len(distances))]
