import itertools

import numpy as np
import pytest

from sktriplet.recognition import _error_rates
from sktriplet.recognition._error_rates import (
    HeldOutSamples,
    bootstrap_error_rates,
    dyadic_interval,
    pool_pairs,
)


def test_pool_pairs(rng):
    """By definition, pair by pair."""
    labels, groups = np.array([0, 0, 0, 1, 1, 2]), np.array([5, 5, 6, 5, 5, 6])
    distances = rng.random((6, 6))
    distances += distances.T
    positive, negative = pool_pairs([HeldOutSamples(distances, labels, groups)] * 2)
    assert sorted(positive) == sorted([distances[0, 2], distances[1, 2]] * 2)
    assert sorted(negative) == sorted(
        [distances[i, j] for i, j in itertools.combinations(range(6), 2) if labels[i] != labels[j]]
        * 2
    )


def test_bootstrap_error_rates(rng, monkeypatch):
    """Draw the same classes and samples, list the copies, and count pair by pair."""
    monkeypatch.setattr(_error_rates, "N_BOOTSTRAPS", 5)
    labels = np.array([0, 0, 0, 1, 1, 2, 2, 2, 2])
    points = rng.normal(size=(len(labels), 2))
    distances = np.linalg.norm(points[:, None] - points, axis=2)
    threshold = np.median(distances)
    rates = bootstrap_error_rates(
        [HeldOutSamples(distances, labels, np.arange(len(labels)))], threshold, 3
    )

    draws = np.random.default_rng(0)
    n_class_draws = draws.multinomial(3, [1 / 3] * 3, 5)
    n_draws = [draws.multinomial(count, [1 / count] * count, 5) for count in np.bincount(labels)]
    for number in range(5):
        n_errors, n_pairs = np.zeros(2), np.zeros(2)
        drawn = []
        for label, n_copies in enumerate(n_class_draws[number]):
            indices = np.repeat(np.flatnonzero(labels == label), n_draws[label][number])
            drawn += [(label, copy, index) for copy in range(n_copies) for index in indices]
        for (left, left_copy, i), (right, right_copy, j) in itertools.combinations(drawn, 2):
            if i == j or (left == right and left_copy != right_copy):
                continue
            same = int(left == right)
            n_pairs[same] += 1
            n_errors[same] += (distances[i, j] > threshold) == bool(same)
        with np.errstate(invalid="ignore"):
            expected = n_errors / n_pairs
        assert rates[:, number] == pytest.approx(expected, nan_ok=True)


@pytest.mark.parametrize("n_samples", [25, 50, 500])
def test_dyadic_interval(n_samples, rng):
    """The variance is the sum of the covariances of all pairs of pairs that share a sample."""
    samples = np.column_stack(np.triu_indices(n_samples, k=1))
    samples = samples[rng.choice(len(samples), 200, replace=False)]
    quality = rng.random(n_samples)
    is_error = rng.random(200) < quality[samples].mean(axis=1) ** 2
    rate = is_error.mean()
    variance = sum(
        (is_error[i] - rate) * (is_error[j] - rate) / 200**2
        for i, j in itertools.product(range(200), repeat=2)
        if set(samples[i]) & set(samples[j])
    )
    n_effective = 200 * min(1, rate * (1 - rate) / 200 / variance) if variance > 0 else 200
    for bound in dyadic_interval(is_error, samples):  # Wilson's interval solves this equation.
        assert n_effective * (rate - bound) ** 2 == pytest.approx(
            1.96**2 * bound * (1 - bound), 1e-3
        )


@pytest.mark.parametrize("n_errors", [0, 12])
def test_dyadic_interval_of_repeated_pairs(n_errors, rng):
    """Repetitions, in either order, do not make the interval narrower."""
    samples = rng.permutation(np.column_stack(np.triu_indices(12, k=1)))
    is_error = rng.permutation(len(samples)) < n_errors
    expected = dyadic_interval(is_error, samples)
    repeated = np.concatenate([samples, samples[:, ::-1], samples])
    assert dyadic_interval(np.tile(is_error, 3), repeated) == pytest.approx(expected)


def test_dyadic_interval_of_a_sample_with_itself(rng):
    """The definition, for some pairs that are repeated and some samples paired with themselves."""
    samples = rng.integers(6, size=(40, 2))
    is_error = rng.random(40) < 0.5 + 0.3 * (samples[:, 0] < 3)
    residuals = is_error - is_error.mean()
    variance = sum(
        residuals[i] * residuals[j] / 40**2
        for i, j in itertools.product(range(40), repeat=2)
        if set(samples[i]) & set(samples[j])
    )
    n_distinct = len({tuple(sorted(pair)) for pair in samples.tolist()})
    rate = is_error.mean()
    n_effective = min(n_distinct, rate * (1 - rate) / variance) if variance > 0 else n_distinct
    for bound in dyadic_interval(is_error, samples):
        assert n_effective * (rate - bound) ** 2 == pytest.approx(
            1.96**2 * bound * (1 - bound), 1e-3
        )


def test_dyadic_interval_without_errors():
    low, high = dyadic_interval(np.zeros(50, bool), np.arange(100).reshape(50, 2))
    assert low == pytest.approx(0)
    assert high == pytest.approx(1.96**2 / (50 + 1.96**2), abs=1e-3)


def test_dyadic_interval_coverage(rng):
    """Of all pairs of samples that differ in quality, which a binomial interval ignores."""
    covered = []
    left, right = np.triu_indices(40, k=1)
    for _ in range(100):
        quality = rng.random(40)
        is_error = quality[left] + quality[right] > 1.5
        low, high = dyadic_interval(is_error, np.column_stack([left, right]))
        covered.append(low <= 1 / 8 <= high)
    assert np.mean(covered) > 0.85
