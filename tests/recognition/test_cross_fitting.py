import numpy as np
import pandas as pd
import pytest
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection import GroupKFold, StratifiedKFold
from sklearn.preprocessing import StandardScaler

from sktriplet import OpenSetClassifier, PairVerifier, TripletEmbedder
from sktriplet.recognition._cross_fitting import cross_fitted_embedders, cross_fitting_splits


class Recorder(TransformerMixin, BaseEstimator):
    """Record the samples and classes of fit."""

    def fit(self, X, y):
        self.samples_, self.classes_ = set(X[:, 0]), set(y)
        return self


def make_data(counts):
    """Make classes of these sizes, in which every sample is its index."""
    y = np.repeat([f"class {number:02}" for number in range(len(counts))], counts)
    return np.arange(len(y), dtype=float)[:, None], y


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
def test_cross_fitting(counts, cv, n_folds, by_class):
    """Every sample is held out once, and its embedder was fitted on the other folds."""
    X, y = make_data(counts)
    splits = cross_fitting_splits(X, y, cv)
    assert len(splits) == n_folds
    assert sorted(np.concatenate([test for _, test in splits])) == list(range(len(y)))
    for embedder, train, test in cross_fitted_embedders(Recorder(), X, y, splits):
        assert sorted([*train, *test]) == list(range(len(y)))
        assert embedder.samples_ == set(train)
        assert embedder.classes_.isdisjoint(y[test]) == by_class


@pytest.mark.parametrize(
    ("counts", "sizes"),
    [([100] * 5 + [2] * 15, [106] * 5), ([5] * 9, [23, 22]), ([20, 1, 1], [5, 5, 4, 4, 4])],
)
def test_fold_sizes_are_balanced(counts, sizes):
    splits = cross_fitting_splits(*make_data(counts), None)
    assert sorted((len(test) for _, test in splits), reverse=True) == sizes


def test_consecutive_samples_of_a_class_stay_together():
    X, y = make_data([10, 15])
    for _, test in cross_fitting_splits(X, y, None):
        for label in np.unique(y):
            held_out = test[y[test] == label]
            assert (np.diff(held_out) == 1).all()
            assert len(held_out) in (2, 3)


def test_class_types():
    X, y = make_data([5] * 10)
    dates = np.unique(y, return_inverse=True)[1].astype("datetime64[D]")
    expected = cross_fitting_splits(X, y, None)
    for labels in (y.astype(object), dates):
        for split, other in zip(expected, cross_fitting_splits(X, labels, None), strict=True):
            assert all(map(np.array_equal, split, other))


@pytest.mark.parametrize(
    ("counts", "cv", "message"),
    [
        ([3, 3], None, r"10 classes in y, .* 4 samples\. Got 2 classes, .* 3 samples"),
        ([7] * 3, 4, r"8 classes in y, .* 8 samples\. Got 3 classes, .* 7 samples"),
    ],
)
def test_too_few_samples(counts, cv, message):
    with pytest.raises(ValueError, match=message):
        cross_fitting_splits(*make_data(counts), cv)


def test_errors_note_the_fold():
    class Failing(Recorder):
        def fit(self, X, y):
            if "class 00" not in y:
                raise ValueError("failed")
            return super().fit(X, y)

    X, y = make_data([2] * 10)
    splits = cross_fitting_splits(X, y, None)
    (number,) = (number for number, (_, test) in enumerate(splits, start=1) if 0 in test)
    with pytest.raises(ValueError, match="failed") as error:
        list(cross_fitted_embedders(Failing(), X, y, splits))
    (note,) = error.value.__notes__
    assert note.endswith(f"without fold {number}.")


def test_frozen_embedder_is_not_refitted(iris):
    X, y = iris
    frozen = FrozenEstimator(StandardScaler().fit(X[:50]))
    splits = cross_fitting_splits(X, y, None)
    for embedder, *_ in cross_fitted_embedders(frozen, X, y, splits):
        assert embedder is frozen


@pytest.mark.parametrize("estimator_class", [OpenSetClassifier, PairVerifier])
def test_default_embedder(estimator_class, blobs):
    embedder, _ = estimator_class()._validate_fit(*blobs)
    assert repr(embedder) == repr(TripletEmbedder())


@pytest.mark.parametrize("estimator_class", [OpenSetClassifier, PairVerifier])
class TestFrozenWithFeatureNames:
    """Warnings are errors here, and scikit-learn warns if names are missing."""

    def test_same_names(self, estimator_class, iris):
        X, y = pd.DataFrame(iris[0], columns=list("abcd")), iris[1]
        frozen = FrozenEstimator(StandardScaler().fit(X[::2]))
        estimator = estimator_class(frozen).fit(X[1::2], y[1::2])
        assert estimator.feature_names_in_.tolist() == list("abcd")
        if estimator_class is OpenSetClassifier:
            assert estimator.enroll(X[:10], y[:10]).predict(X).shape == (150,)
        else:
            assert estimator.predict(np.stack([X, X], axis=1)).all()

    def test_other_order(self, estimator_class, iris):
        X, y = pd.DataFrame(iris[0], columns=list("abcd")), iris[1]
        frozen = FrozenEstimator(StandardScaler().fit(X))
        with pytest.raises(ValueError, match="Feature names must be in the same order"):
            estimator_class(frozen).fit(X[list("badc")], y)

    def test_fitted_without_names(self, estimator_class, iris):
        X, y = pd.DataFrame(iris[0], columns=list("abcd")), iris[1]
        frozen = FrozenEstimator(StandardScaler().fit(iris[0]))
        assert estimator_class(frozen).fit(X, y).n_features_in_ == 4
