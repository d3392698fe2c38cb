import re

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection import GroupKFold, StratifiedKFold
from sklearn.preprocessing import StandardScaler

from sktriplet import OpenSetClassifier, PairVerifier
from sktriplet.metrics._operating_point import threshold_at
from sktriplet.recognition._cross_fitting import held_out_folds


class Witness(TransformerMixin, BaseEstimator):
    """Remember what was seen."""

    def fit(self, X, y):
        self.seen_rows_, self.seen_classes_ = X[:, 0], set(y)
        return self


def folds_of(counts, cv=None):
    """Hold out rows of so many classes, each row its own number."""
    labels = np.repeat(np.arange(len(counts)), counts)
    rows = np.arange(len(labels), dtype=float)[:, None]
    classes = np.array([f"class {number:02}" for number in range(len(counts))])
    return list(held_out_folds(Witness(), rows, classes, labels, cv)), classes[labels]


@pytest.mark.parametrize(
    ("counts", "cv", "n_folds", "by_class"),
    [
        ([5] * 10, None, 5, True),
        ([5] * 9, None, 2, False),
        ([20] * 9, None, 5, False),
        ([20, 1, 1], None, 5, False),
        ([4, 4], None, 2, False),
        ([5] * 8, 4, 4, True),
        ([5] * 8, 2, 2, True),
        ([12] * 4, 3, 3, False),
        ([1] * 9 + [30], None, 5, True),
        ([5] * 6, GroupKFold(3), 3, True),
        ([6] * 12, StratifiedKFold(3), 3, False),
    ],
)
def test_every_row_is_embedded_once_by_one_that_has_not_seen_it(counts, cv, n_folds, by_class):
    folds, y = folds_of(counts, cv)
    assert len(folds) == n_folds
    assert sorted(np.concatenate([fold.test for fold in folds])) == list(range(len(y)))
    for fold in folds:
        assert not set(fold.embedder.seen_rows_) & set(fold.test)
        assert set(fold.embedder.seen_rows_) == set(fold.train)
        assert (not fold.embedder.seen_classes_ & set(y[fold.test])) == by_class


def test_large_and_small_classes_are_dealt_evenly():
    folds, _ = folds_of([100] * 5 + [2] * 15)
    assert [len(fold.test) for fold in folds] == [106] * 5


def test_rows_of_a_class_are_held_out_in_a_block():
    folds, y = folds_of([10, 15])
    for fold in folds:
        for label in np.unique(y):
            held_out = fold.test[y[fold.test] == label]
            assert (np.diff(held_out) == 1).all()
            assert len(held_out) in (2, 3)


def test_what_is_frozen_is_not_fitted(iris):
    X, y = iris
    scaler = StandardScaler().fit(X[:50])
    for fold in held_out_folds(FrozenEstimator(scaler), X, np.unique(y), y, None):
        assert (fold.embedder.transform(X) == scaler.transform(X)).all()


@pytest.mark.parametrize("kind", [OpenSetClassifier, PairVerifier])
class TestFrozenOnADataFrame:
    """Warnings are errors here: one is due where names of columns are missing."""

    def test_it_is_fitted_and_asked_without_a_word(self, kind, iris):
        X, y = pd.DataFrame(iris[0], columns=list("abcd")), iris[1]
        estimator = kind(FrozenEstimator(StandardScaler().fit(X[::2]))).fit(X[1::2], y[1::2])
        if kind is OpenSetClassifier:
            assert estimator.enroll(X[:10], y[:10]).predict(X).shape == (150,)
        else:
            assert estimator.predict(np.stack([X, X], axis=1)).all()

    def test_columns_in_another_order(self, kind, iris):
        X, y = pd.DataFrame(iris[0], columns=list("abcd")), iris[1]
        estimator = kind(FrozenEstimator(StandardScaler().fit(X)))
        with pytest.raises(ValueError, match="Feature names must be in the same order"):
            estimator.fit(X[list("badc")], y)

    def test_names_that_it_has_not_seen(self, kind, iris):
        X, y = pd.DataFrame(iris[0], columns=list("abcd")), iris[1]
        assert kind(FrozenEstimator(StandardScaler().fit(iris[0]))).fit(X, y).n_features_in_ == 4


@pytest.mark.parametrize(
    ("counts", "cv", "message"),
    [
        (
            [3, 3],
            None,
            "10 or more classes in y, or a class with 4 or more rows. Got 2 classes, the",
        ),
        ([7] * 3, 4, "8 or more classes in y, or a class with 8 or more rows. Got 3 classes, the"),
    ],
)
def test_too_little_to_hold_out(counts, cv, message):
    with pytest.raises(ValueError, match=message):
        folds_of(counts, cv)


@given(
    distances=st.lists(st.integers(0, 8), min_size=1, max_size=20),
    rate=st.sampled_from([0.01, 0.1, 0.25, 0.5, 0.9]),
)
def test_as_many_as_possible_are_within_the_threshold(distances, rate):
    distances = np.array(distances, dtype=np.float32)
    possible = [np.mean(distances <= at) for at in np.arange(0, 9, 0.5)]
    kept = [part for part in possible if part <= rate]
    if not kept:
        with pytest.raises(ValueError, match="No threshold keeps the rate of false positives"):
            threshold_at(rate, distances)
    else:
        assert np.mean(distances <= threshold_at(rate, distances)) == max(kept)


def test_a_rate_that_floating_point_numbers_miss():
    distances = np.arange(1, 101.0)
    for n_within in range(1, 100):
        rate = n_within / 100
        assert np.sum(distances <= threshold_at(rate, distances)) == n_within, rate


def test_there_is_a_number_between_neighbours_in_single_precision():
    distances = np.float32([1 + 2**-23, 1 + 2**-22])
    assert np.sum(distances.astype(float) <= threshold_at(0.5, distances)) == 1


def test_many_equal_distances_leave_a_threshold_below_them():
    distances = np.r_[[0.5] * 3, np.linspace(1, 2, 37)]
    assert threshold_at(0.05, distances) == 0.25


def test_errors_say_in_which_fold():
    class Refuses(Witness):
        def fit(self, X, y):
            if 0 not in y:
                raise ValueError("no zeros")
            return super().fit(X, y)

    labels = np.repeat(np.arange(10), 2)
    folds = held_out_folds(Refuses(), np.zeros((20, 1)), np.arange(10), labels, None)
    with pytest.raises(ValueError, match="no zeros") as raised:
        list(folds)
    (note,) = raised.value.__notes__
    assert re.fullmatch(r"Rows held out in fold [1-5] of 5 were left out\.", note)
