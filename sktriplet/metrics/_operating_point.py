"""Thresholds at a target false positive rate, and the scores measured at them."""

import math
import warnings
from collections.abc import Callable
from numbers import Real
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.exceptions import UndefinedMetricWarning
from sklearn.utils import assert_all_finite, check_consistent_length, column_or_1d
from sklearn.utils._param_validation import (
    StrOptions,
    validate_parameter_constraints,
    validate_params,
)

from sktriplet._labels import check_labels, concatenate_labels
from sktriplet._parameters import Interval
from sktriplet.exceptions import InvalidParameterError

# Relative rounding error to ignore: 0.29 * 100 is slightly less than 29.
RATE_TOLERANCE = 1e-12

# What a threshold may maximize.
STRATEGIES = ("accuracy", "balanced_accuracy", "f_beta", "max_tpr", "max_tnr")


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
    """Return the largest threshold that accepts at most this fraction of the negatives.

    No other threshold that the rate permits accepts more positives. It is halfway between the
    smallest distance of a rejected negative, in single precision, and the next smaller number:
    a distance is accepted if and only if it is smaller after rounding.
    """
    distances = distances.astype(np.float32)
    if max_count_at_rate(rate, len(distances)) == len(distances):
        return float("inf")
    rejected = _first_rejected(distances, rate)
    if rejected == 0:
        raise ValueError(
            f"No threshold has a false positive rate of at most {rate}: a larger fraction of the "
            "held-out distances is zero."
        )
    halfway = (float(rejected) + float(np.nextafter(rejected, np.float32(0)))) / 2
    return float(np.nextafter(halfway, 0))  # at halfway, rejected may be the rounded number


def threshold_at_tpr(positive: NDArray, negative: NDArray, rate: float) -> float:
    """Return the smallest threshold that accepts at least this fraction of the positives."""
    # The fraction that is not accepted is at most one minus the rate.
    n_accepted = len(positive) - max_count_at_rate(1 - rate, len(positive))
    if n_accepted == 0:
        return _above(None, positive, negative)
    return _above(np.partition(positive, n_accepted - 1)[n_accepted - 1], positive, negative)


def best_threshold(
    positive: NDArray, negative: NDArray, criterion: Callable[[NDArray, NDArray], NDArray]
) -> float:
    """Return the smallest threshold that maximizes a criterion.

    The criterion receives the numbers of accepted positives and of accepted negatives. It must
    not decrease with the former or increase with the latter, so the best threshold accepts no
    pair farther away than its last positive pair.
    """
    positive, negative = np.sort(positive), np.sort(negative)
    accepted = np.unique(positive)
    n_accepted = (np.searchsorted(part, accepted, side="right") for part in (positive, negative))
    # The last candidate rejects all pairs.
    best = np.argmax(criterion(*(np.append(counts, 0) for counts in n_accepted)))
    return _above(accepted[best] if best < len(accepted) else None, positive, negative)


def validate_strategy(strategy: Any, min_rate: Any, beta: Any) -> None:
    """Check the parameters of a strategy.

    Raises
    ------
    InvalidParameterError
        If one is invalid, missing, or not used by the strategy.
    """
    constraints = {
        "strategy": [StrOptions(set(STRATEGIES)), None],
        "min_rate": [Interval(Real, 0, 1, closed="both"), None],
        "beta": [Interval(Real, 0, None, closed="neither"), None],
    }
    values = {"strategy": strategy, "min_rate": min_rate, "beta": beta}
    validate_parameter_constraints(constraints, values, "calibrate_threshold")
    needs_rate = strategy in ("max_tpr", "max_tnr")
    if needs_rate == (min_rate is None):
        raise InvalidParameterError(
            "The 'min_rate' parameter of calibrate_threshold is required by the strategies "
            f"'max_tpr' and 'max_tnr' only. Got {min_rate} with strategy={strategy!r}."
        )
    if beta is not None and strategy != "f_beta":
        raise InvalidParameterError(
            "The 'beta' parameter of calibrate_threshold is used by the strategy 'f_beta' only. "
            f"Got {beta} with strategy={strategy!r}."
        )


def threshold_by_strategy(
    positive: NDArray,
    negative: NDArray,
    strategy: str,
    min_rate: Any = None,
    beta: float | None = None,
) -> float:
    """Return the best threshold for distances of positive and negative pairs.

    The strategies are "balanced_accuracy", "accuracy", "f_beta", "max_tpr" and "max_tnr": the
    maximum true positive rate at a true negative rate of at least `min_rate`, and vice versa.
    """
    n_positive, n_negative = len(positive), len(negative)
    beta = 1.0 if beta is None else beta
    if strategy == "max_tpr":
        farthest = max(positive.max(), negative.max())
        return min(threshold_at_fpr(negative, 1 - min_rate), _above(farthest, positive))
    if strategy == "max_tnr":
        return threshold_at_tpr(positive, negative, min_rate)
    criteria: dict[str, Callable] = {
        "balanced_accuracy": lambda tp, fp: tp * n_negative - fp * n_positive,
        "accuracy": lambda tp, fp: tp - fp,
        "f_beta": lambda tp, fp: (1 + beta**2) * tp / (beta**2 * n_positive + tp + fp),
    }
    return best_threshold(positive, negative, criteria[strategy])


def max_count_at_rate(rate: float, n: int) -> int:
    """Return the largest count whose fraction of n is at most the rate."""
    return int(rate * n * (1 + RATE_TOLERANCE))


def check_rate_is_measurable(
    parameter: str,
    rate: float,
    n_samples: int,
    owner: object,
    *,
    samples_per_trial: int = 1,
    unit: str = "samples",
) -> None:
    """Check that the rate, a parameter of the owner, permits a false positive.

    With ``samples_per_trial=2``, trials are pairs of held-out samples that share no sample.
    """
    if not max_count_at_rate(rate, n_samples // samples_per_trial):
        needed = samples_per_trial * math.ceil((1 - RATE_TOLERANCE) / rate)
        raise ValueError(
            f"The {parameter!r} parameter of {type(owner).__name__} is too low to be measured on "
            f"{n_samples} held-out {unit}. Got {rate}, which needs at least {needed} {unit}."
        )


def _above(accepted: Any, *parts: NDArray) -> float:
    """Return the midpoint of an accepted distance and the next larger one of any part.

    Distances are in single precision, so it exists in double precision. None instead of a distance
    means that all are rejected.
    """
    if accepted is None:
        smallest = min(float(part.min()) for part in parts)
        return smallest / 2 if smallest > 0 else -1.0
    farther = min(float(part[part > accepted].min(initial=np.inf)) for part in parts)
    if farther == np.inf:  # A distance in double precision may have been rounded down.
        farther = float(np.nextafter(np.float32(accepted), np.float32(np.inf)))
    return (float(accepted) + farther) / 2


def _first_rejected(distances: NDArray, rate: float) -> float:
    """Return the smallest distance of a negative that the rate does not permit to accept."""
    return np.sort(distances)[max_count_at_rate(rate, len(distances))]
