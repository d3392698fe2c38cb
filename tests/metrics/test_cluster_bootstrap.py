from itertools import combinations, product

import numpy as np
import pytest

from sktriplet.metrics._cluster_bootstrap import bootstrap_pair_weights


def test_weights_are_counts_of_pairs():
    """Compare with the pairs of a data set that is composed of the drawn classes."""
    members = {0: "ab", 1: "c", 2: "def", 4: "g"}
    class_of = {sample: label for label, samples in members.items() for sample in samples}
    pairs = list(combinations(class_of, 2))
    classes = np.array([[class_of[left], class_of[right]] for left, right in pairs])
    weights = bootstrap_pair_weights(classes, 20, np.random.default_rng(0))
    rng = np.random.default_rng(0)
    for weight in weights:
        drawn = rng.choice([0, 1, 2, 4], 4)
        copies = [(copy, sample) for copy, label in enumerate(drawn) for sample in members[label]]
        expected = [
            sum(
                {first, second} == {left, right} and (i == j or class_of[left] != class_of[right])
                for (i, first), (j, second) in product(copies, copies)
            )
            / 2
            for left, right in pairs
        ]
        assert weight.tolist() == expected


def test_coverage():
    """The spread of bootstrapped rates resembles that over new draws of the classes."""
    rng = np.random.default_rng(0)
    left, right = np.triu_indices(120, k=1)
    classes = np.column_stack([left, right]) // 4
    is_genuine = classes[:, 0] == classes[:, 1]
    rates, spreads = [], []
    for _ in range(30):
        centers, scales = rng.normal(size=30), rng.exponential(0.5, size=30)
        x = centers[np.arange(120) // 4] + scales[np.arange(120) // 4] * rng.normal(size=120)
        rejected = np.abs(x[left] - x[right]) > 0.5
        rates.append(rejected[is_genuine].mean())
        weights = bootstrap_pair_weights(classes, 50, rng)
        spreads.append(
            np.std([np.average(rejected[is_genuine], weights=w[is_genuine]) for w in weights])
        )
    assert np.median(spreads) == pytest.approx(np.std(rates), rel=0.3)
