"""Distances of held-out pairs, and intervals of the error rates at a threshold."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

N_BOOTSTRAPS = 200

Interval = tuple[float, float]


@dataclass
class HeldOutSamples:
    """Distances (n_samples, n_samples) between the held-out samples of a fold.

    Two samples of the same class, but of different groups, are a positive pair. Without groups,
    every sample is a group of its own.
    """

    distances: NDArray[np.float32]
    labels: NDArray[np.int64]
    groups: NDArray[np.int64]

    @property
    def is_positive(self) -> NDArray[np.bool_]:
        """Which pairs are positive, in both orders of their samples."""
        same_class = self.labels[:, None] == self.labels
        return same_class & (self.groups[:, None] != self.groups)

    @property
    def is_negative(self) -> NDArray[np.bool_]:
        """Which pairs are negative, in both orders of their samples."""
        return self.labels[:, None] != self.labels


def pool_pairs(folds: list[HeldOutSamples]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return the distances of all positive pairs, and of all negative pairs."""
    positive, negative = [], []
    for fold in folds:
        positive.append(fold.distances[np.triu(fold.is_positive)])
        negative.append(fold.distances[np.triu(fold.is_negative)])
    return np.concatenate(positive), np.concatenate(negative)


def bootstrap_intervals(
    folds: list[HeldOutSamples], threshold: float, n_classes: int
) -> tuple[Interval, Interval]:
    """Return 95% intervals of the false positive and false negative rates."""
    rates = bootstrap_error_rates(folds, threshold, n_classes)
    false_positive, false_negative = np.nanpercentile(rates, [2.5, 97.5], axis=1).T.tolist()
    return tuple(false_positive), tuple(false_negative)


def bootstrap_error_rates(
    folds: list[HeldOutSamples], threshold: float, n_classes: int
) -> NDArray[np.float64]:
    """Return false positive and false negative rates, (2, N_BOOTSTRAPS), of a cluster bootstrap.

    The first stage draws classes with replacement, the second one samples within classes. The
    copies of a class form no pairs with each other, and neither do the copies of a sample.
    """
    rng = np.random.default_rng(0)
    class_weights = rng.multinomial(n_classes, np.full(n_classes, 1 / n_classes), N_BOOTSTRAPS).T
    n_errors, n_pairs = np.zeros((2, 2, N_BOOTSTRAPS))
    for fold in folds:
        sample_weights = _draw_sample_weights(fold.labels, rng)
        weights = sample_weights * class_weights[fold.labels].astype(np.float32)
        accepted = fold.distances <= threshold
        # Positive pairs are of one class, whose weight counts only once.
        for number, (is_pair, is_error, other_weights) in enumerate(
            [
                (fold.is_negative, accepted, weights),
                (fold.is_positive, ~accepted, sample_weights),
            ]
        ):
            n_errors[number] += _weighted_count(is_pair & is_error, weights, other_weights)
            n_pairs[number] += _weighted_count(is_pair, weights, other_weights)
    with np.errstate(invalid="ignore"):  # a rate is NaN if no pairs were drawn
        return n_errors / n_pairs


def _draw_sample_weights(labels: NDArray, rng: np.random.Generator) -> NDArray[np.float32]:
    """Return how often the samples are drawn within their class, (n_samples, N_BOOTSTRAPS)."""
    weights = np.empty((len(labels), N_BOOTSTRAPS), dtype=np.float32)
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        uniform = np.full(len(members), 1 / len(members))
        weights[members] = rng.multinomial(len(members), uniform, N_BOOTSTRAPS).T
    return weights


def _weighted_count(
    pairs: NDArray[np.bool_], left: NDArray[np.float32], right: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Sum the products of the weights of both samples over all pairs, per bootstrap."""
    return np.einsum("ib,ib->b", left, pairs.astype(np.float32) @ right)


def dyadic_interval(is_error: NDArray[np.bool_], samples: NDArray[np.intp]) -> Interval:
    """Return a 95% interval of an error rate of pairs, given the samples (n_pairs, 2) of each.

    Two pairs are dependent if they share a sample. The variance of the rate, the sum of the
    covariances of all dependent pairs, determines an effective number of pairs (Aronow, Samii and
    Assenova, "Cluster-Robust Variance Estimation for Dyadic Data", Political Analysis 2015) for
    Wilson's interval. Repetitions of a pair, in either order, add no information.
    """
    rate = float(np.mean(is_error))
    residuals = is_error - rate
    first, second = samples.min(axis=1), samples.max(axis=1)
    n_samples = second.max() + 1
    is_distinct = first < second
    per_sample = np.bincount(first, residuals, n_samples)
    per_sample += np.bincount(second[is_distinct], residuals[is_distinct], n_samples)
    keys, numbers = np.unique(first * n_samples + second, return_inverse=True)
    # Pairs of the same two samples are counted in the sums of both.
    per_pair = np.bincount(numbers, np.where(is_distinct, residuals, 0))
    variance = ((per_sample**2).sum() - (per_pair**2).sum()) / len(is_error) ** 2
    n_effective = float(len(keys))
    if variance > 0:
        n_effective = min(n_effective, rate * (1 - rate) / variance)
    z = 1.959963984540054
    center = (rate + z**2 / (2 * n_effective)) / (1 + z**2 / n_effective)
    half = z * np.sqrt(rate * (1 - rate) / n_effective + z**2 / (4 * n_effective**2))
    half = float(half / (1 + z**2 / n_effective))
    return min(max(0.0, center - half), rate), max(min(1.0, center + half), rate)
